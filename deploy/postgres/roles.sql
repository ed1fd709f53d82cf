-- Who may do what in PostgreSQL. A superuser runs it once, in the product's new database; passwords come from the
-- environment. Tables belong to the owner, which `manage.py migrate` is; it grants the rest on what it makes.
\set ON_ERROR_STOP on
\getenv owner_password POSTGRES_OWNER_PASSWORD
\getenv grpc_password POSTGRES_GRPC_PASSWORD
\getenv web_password POSTGRES_WEB_PASSWORD
\getenv consumer_password POSTGRES_CONSUMER_PASSWORD

BEGIN;
-- What may be read and changed: activities and chats; the admin's accounts, sessions and log.
CREATE ROLE activities_data NOLOGIN;
CREATE ROLE activities_admin NOLOGIN;

CREATE ROLE activities_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE activities_grpc LOGIN PASSWORD :'grpc_password' IN ROLE activities_data;
CREATE ROLE activities_web LOGIN PASSWORD :'web_password' IN ROLE activities_data, activities_admin;
CREATE ROLE activities_consumer LOGIN PASSWORD :'consumer_password' IN ROLE activities_data;

SELECT current_database() AS database \gset
ALTER DATABASE :"database" OWNER TO activities_owner;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO activities_data;
ALTER SCHEMA public OWNER TO activities_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO activities_data;
COMMIT;
