-- Beside roles.sql, for `make services`: tests have databases of their own.
ALTER ROLE activities_owner CREATEDB;
