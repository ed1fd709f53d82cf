"""Settings of every process. The environment is read here and nowhere else; the README has the table."""

import sys
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from environs import Env

from activities.access import ServiceToken
from activities_project.environment import (
    address,
    bot_token,
    checked,
    durable_database,
    file,
    kafka_security,
    made_once,
    networks,
    number,
    one_of,
    read_file,
    redis_cache,
    redis_url,
    required,
    secret,
    secrets_of,
    server_tls_of,
    servers,
    url_path,
    value,
    web_url,
    whole,
    words,
)

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
read_file(env, BASE_DIR / ".env")

ISSUES_TOKEN = sys.argv[1:2] == ["token"] and "issue" in sys.argv[2:]
"""This command needs the key and nothing else; it has to work beside a `serve --local` without any settings."""

# ------------------------------------------------------------------------------------- the product

ACTIVITIES_BACKEND = checked(
    env,
    "ACTIVITIES_BACKEND",
    one_of("postgres", "memory", "grpc", "kafka"),
    default="postgres",
    expected="expected postgres, memory, grpc or kafka",
)
ACTIVITIES_STORAGE_SLOTS = checked(
    env, "ACTIVITIES_STORAGE_SLOTS", whole(1, 1000), default="10", expected="expected a number from 1 to 1000 like 10"
)
ACTIVITIES_STORAGE_SECONDS = checked(
    env, "ACTIVITIES_STORAGE_SECONDS", number(0.01, 60), default="2", expected="expected seconds from 0.01 to 60 like 2"
)
ACTIVITIES_MAX_PER_CHAT = checked(
    env,
    "ACTIVITIES_MAX_PER_CHAT",
    whole(1, 10_000_000),
    default="10000",
    expected="expected a number from 1 to 10000000 like 10000",
)
ACTIVITIES_MAX_STREAMS = checked(
    env, "ACTIVITIES_MAX_STREAMS", whole(1, 30), default="16", expected="expected a number from 1 to 30 like 16"
)
ACTIVITIES_TOKEN_DAYS = checked(
    env, "ACTIVITIES_TOKEN_DAYS", number(0.0001, 3650), default="90", expected="expected days, at most 3650, like 90"
)


def _service_tokens(text: str) -> list[ServiceToken]:
    tokens = [ServiceToken.parse(word) for word in words(text)]
    for token in tokens:
        secret(token.secret)
    if len({token.secret for token in tokens}) < len(tokens) or {"chat", "nobody"} & {token.name for token in tokens}:
        raise ValueError("two may do different things by the same secret, or one is called like somebody else")
    return tokens


ACTIVITIES_SERVICE_TOKENS = checked(
    env,
    "ACTIVITIES_SERVICE_TOKENS",
    _service_tokens,
    default="",
    expected="expected name:secret or name:secret:read, separated by commas; a secret has at least 32 characters "
    "of A-Z a-z 0-9 _ -, and is none that an example shows; each has its own, and none is called chat or nobody",
)
ACTIVITIES_REQUESTS_PER_MINUTE = checked(
    env,
    "ACTIVITIES_REQUESTS_PER_MINUTE",
    whole(0, 1_000_000_000),
    default="600",
    expected="expected a number from 0 (no bound) to 1000000000 like 600",
)
ACTIVITIES_SERVICE_REQUESTS_PER_MINUTE = checked(
    env,
    "ACTIVITIES_SERVICE_REQUESTS_PER_MINUTE",
    whole(0, 1_000_000_000),
    default="0",
    expected="expected a number from 0 (no bound) to 1000000000 like 60000",
)
ACTIVITIES_GRPC_TARGET = env.str("ACTIVITIES_GRPC_TARGET", "127.0.0.1:50061")
ACTIVITIES_GRPC_TOKEN = value(env, "ACTIVITIES_GRPC_TOKEN")
ACTIVITIES_GRPC_REFLECTION = checked(
    env,
    "ACTIVITIES_GRPC_REFLECTION",
    one_of("auto", "on", "off"),
    default="auto",
    expected="expected auto (on when listening on loopback), on or off",
)
WRITES_ARE_QUEUED = ACTIVITIES_BACKEND == "kafka" and not ISSUES_TOKEN
KAFKA_BOOTSTRAP_SERVERS = checked(
    env,
    "KAFKA_BOOTSTRAP_SERVERS",
    required(servers) if WRITES_ARE_QUEUED else servers,
    default="",
    expected="expected HOST:PORT, separated by commas, like 127.0.0.1:9092",
)
KAFKA_REPLICATION_FACTOR = checked(
    env, "KAFKA_REPLICATION_FACTOR", whole(1, 100), default="1", expected="expected a number from 1 to 100 like 1"
)
REDIS_URL = checked(
    env,
    "REDIS_URL",
    required(redis_url) if WRITES_ARE_QUEUED else redis_url,
    default="",
    expected="expected redis://:PASSWORD@HOST:PORT/0, or rediss:// for TLS",
)
TELEGRAM_BOT_TOKEN = checked(
    env, "TELEGRAM_BOT_TOKEN", bot_token, default="", expected="expected a token of BotFather's, digits:letters"
)
TELEGRAM_API_BASE_URL = checked(
    env,
    "TELEGRAM_API_BASE_URL",
    web_url("http", "https"),
    default="https://api.telegram.org/bot",
    expected="expected a URL, to which the token is appended, like https://api.telegram.org/bot",
)
TELEGRAM_ALLOWED_CHAT_IDS = checked(
    env,
    "TELEGRAM_ALLOWED_CHAT_IDS",
    lambda text: frozenset(map(int, words(text))),
    default="",
    expected="expected chat ids, separated by commas, like 42,-1001234567890",
)
TELEGRAM_WEBHOOK_URL = checked(
    env,
    "TELEGRAM_WEBHOOK_URL",
    web_url("https", "http"),  # without TLS a Bot API server of one's own takes it
    default="",
    expected="expected a URL like https://bot.example.com",
)
TELEGRAM_WEBHOOK_ADDRESS = checked(
    env,
    "TELEGRAM_WEBHOOK_ADDRESS",
    address,
    default="127.0.0.1:8443",
    expected="expected HOST:PORT like 127.0.0.1:8443",
)
ACTIVITIES_PUBLIC_URL: str = checked(
    env,
    "ACTIVITIES_PUBLIC_URL",
    web_url("http", "https"),
    default="http://127.0.0.1:8000",
    expected="expected the address of the API like https://activities.example",
)
ACTIVITIES_GATEWAY_URL: str = checked(
    env,
    "ACTIVITIES_GATEWAY_URL",
    web_url("http", "https"),
    default="http://127.0.0.1:8080",
    expected="expected the address of the gateway like https://gateway.activities.example",
)
METRICS_ADDRESS = checked(
    env, "METRICS_ADDRESS", address, default="", expected="expected HOST:PORT like 127.0.0.1:9100"
)

HTTP_TRUSTED_PROXIES = checked(
    env,
    "HTTP_TRUSTED_PROXIES",
    networks,
    default="",
    expected="expected addresses or networks, separated by commas, like 127.0.0.1,10.0.0.0/8",
)

# -------------------------------------------------------------------------------------------- TLS

TLS_CERTIFICATE_FILE = file(env, "TLS_CERTIFICATE_FILE", "TLS_KEY_FILE")
TLS_KEY_FILE = file(env, "TLS_KEY_FILE", "TLS_CERTIFICATE_FILE")
TLS_CLIENT_CA_FILE = file(env, "TLS_CLIENT_CA_FILE", "TLS_CERTIFICATE_FILE", "TLS_KEY_FILE")
ACTIVITIES_GRPC_CA_FILE = file(env, "ACTIVITIES_GRPC_CA_FILE")
ACTIVITIES_GRPC_SERVER_NAME = env.str("ACTIVITIES_GRPC_SERVER_NAME", "").strip()
ACTIVITIES_GRPC_CERTIFICATE_FILE = file(
    env, "ACTIVITIES_GRPC_CERTIFICATE_FILE", "ACTIVITIES_GRPC_KEY_FILE", "ACTIVITIES_GRPC_CA_FILE"
)
ACTIVITIES_GRPC_KEY_FILE = file(env, "ACTIVITIES_GRPC_KEY_FILE", "ACTIVITIES_GRPC_CERTIFICATE_FILE")
REDIS_TLS = server_tls_of(
    env, "REDIS", used=REDIS_URL.startswith("rediss://"), instead="REDIS_URL=rediss://USER:PASSWORD@HOST:PORT/0"
)
KAFKA_SECURITY = kafka_security(env)

# ----------------------------------------------------------------------------------------- Django

LOCAL_KEY = BASE_DIR / ".local" / "secret_key"
MAKE_KEY = "make one with python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"


def _secret_key() -> str:
    key: str = checked(
        env, "DJANGO_SECRET_KEY", secret, default="", expected=f"it is what an example shows; {MAKE_KEY}"
    )
    if key:
        return key
    if ACTIVITIES_BACKEND == "memory":
        return made_once(LOCAL_KEY)
    if ISSUES_TOKEN and LOCAL_KEY.exists():
        return made_once(LOCAL_KEY)
    raise ImproperlyConfigured(f"DJANGO_SECRET_KEY: needed on every backend but memory; {MAKE_KEY}")


SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS = checked(
    env,
    "DJANGO_SECRET_KEY_FALLBACKS",
    secrets_of,
    default="",
    expected="expected former keys, separated by commas, and none that an example shows",
)
DEBUG = False
ALLOWED_HOSTS = checked(
    env,
    "DJANGO_ALLOWED_HOSTS",
    words,
    default="127.0.0.1,localhost,[::1]",
    expected="expected host names, separated by commas",
)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "activities",
    "activities_project",
    "bot",
    "grpc_server",
    "kafka_worker",
]
MIDDLEWARE = [
    "activities.api.guards.guard",
    "activities.api.exchange.answer_ids",
    "activities.api.served.Served",
    "activities.api.guards.cookies_go_the_way_they_came",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
CONTEXT_PROCESSORS = ["django.template.context_processors.request"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": CONTEXT_PROCESSORS},
    }
]
ROOT_URLCONF = "activities_project.urls"
WSGI_APPLICATION = "activities_project.wsgi.application"
APPEND_SLASH = False  # a name may end in a slash: guessing one more would mean another activity
DATABASES: dict[str, dict[str, object]] = {}
CACHES: dict[str, dict[str, object]] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if ACTIVITIES_BACKEND == "postgres" and not ISSUES_TOKEN:
    DATABASES["default"] = checked(
        env,
        "DATABASE_URL",
        durable_database,
        default="",
        expected="expected postgres://USER:PASSWORD@HOST:PORT/NAME, through pgbouncer",
    )
    CACHES["default"] = checked(
        env,
        "REDIS_URL",
        lambda url: redis_cache(url, REDIS_TLS),
        default="",
        expected="expected redis://:PASSWORD@HOST:PORT/0, or rediss:// for TLS",
    )
    # The admin, and what it keeps in the database. Its pages are loaded with the URLs: not every process serves them.
    INSTALLED_APPS += ["activities_project.apps.AdminConfig", "django.contrib.sessions"]
    MIDDLEWARE += [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "activities.admin.Failures",
    ]
    CONTEXT_PROCESSORS += [
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PROMETHEUS_EXPORT_MIGRATIONS = False

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
LOCALE_PATHS = [BASE_DIR / "bot" / "locale"]

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

ADMIN_PATH = checked(
    env,
    "DJANGO_ADMIN_PATH",
    url_path,
    default="admin/",
    expected="expected a path like staff/ of A-Z a-z 0-9 _ - and /, not below api/ or static/",
)
SESSION_COOKIE_NAME = "activities_admin"
SESSION_COOKIE_PATH = f"/{ADMIN_PATH}"
SESSION_COOKIE_AGE = 12 * 3600  # a working day
CSRF_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True  # but for what comes in plain text, from this machine or --insecure
CSRF_COOKIE_HTTPONLY = True  # the pages have the value in them
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
SECURE_HSTS_SECONDS = checked(
    env,
    "DJANGO_HSTS_SECONDS",
    whole(0, 10 * 365 * 86400),
    default=str(365 * 86400),  # browsers take it neither in plain text nor from an address
    expected="expected seconds like 31536000, or 0 for none",
)
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS of subdomains: other hosts are not ours to decide for
    "security.W008",  # redirection to TLS: where the servers have TLS they have no plain text; a proxy redirects itself
    "security.W021",  # HSTS's preload list: it takes in subdomains
]
CSRF_FAILURE_VIEW = "activities.api.errors.csrf_failure"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["activities.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["activities.api.authentication.WritesAllowed"],
    "DEFAULT_PARSER_CLASSES": [
        "activities.api.parsers.ExactJSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "activities.api.renderers.BrowsablePages",
    ],
    "DEFAULT_METADATA_CLASS": None,  # what OPTIONS would tell is in the schema
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "activities.api.errors.handle",
    "ALLOWED_VERSIONS": ["1"],  # the schema's page would put any `?version=` into a header
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Activities",
    "DESCRIPTION": "Daily activities of a chat: what is due, how often and how much, from when to when.",
    "VERSION": "1",
    "EXTERNAL_DOCS": {"url": "/api/docs/gateway/", "description": "gRPC as JSON, through the gateway"},
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "COMPONENT_SPLIT_REQUEST": True,
    "TAGS": [
        {"name": "activities", "description": "What a chat does each day."},
        {"name": "chat", "description": "The chat that owns them."},
        {"name": "access", "description": "The cookie of a browser."},
        {"name": "process", "description": "What watches over the process asks here."},
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Without `validatorUrl` the page would show a badge from another host.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
}

# ---------------------------------------------------------------------------------------- logging

LOG_LEVEL = checked(
    env,
    "LOG_LEVEL",
    one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    default="INFO",
    expected="expected DEBUG, INFO, WARNING or ERROR",
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "activities_project.logs.PrivateFormatter",
            "format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        }
    },
    "handlers": {"console": {"class": "activities_project.logs.Console", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "filters": {
        "callers_fault": {"()": "activities_project.logs.CallersFault"},
    },
    "loggers": {
        "django.request": {"level": "CRITICAL"},
        "django.security.DisallowedHost": {"filters": ["callers_fault"]},
        "kafka": {"level": "WARNING"},  # below that it tells of each connection
        # A broker that is away is told once by whoever needs it, not with each try.
        **{f"kafka.{part}": {"level": "CRITICAL"} for part in ("net", "cluster", "producer")},
        "httpx": {"level": "WARNING"},  # below that it tells each URL, and Telegram's have the token in them
        "httpcore": {"level": "WARNING"},
        "telegram": {"level": "CRITICAL"},  # it quotes what people wrote; the bot tells of errors itself
        "uvicorn": {"level": "ERROR"},  # its warnings are of what callers send wrong, and of websockets, which we lack
    },
}
