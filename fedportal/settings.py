"""Settings, from the environment only. Every variable is listed in docs/settings.md, generated from this file."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def env(name: str, default: str = "") -> str:
    return os.environ.get(f"FEDPORTAL_{name}", default)


# embedded: one process, SQLite, no broker. production: several processes, PostgreSQL, Redis or Valkey.
FEDPORTAL_MODE = env("MODE", "embedded")
# The folder of the database file, blobs and uploads.
FEDPORTAL_DATA_DIR = Path(env("DATA_DIR", str(BASE_DIR / "var"))).resolve()
# The address under which people and devices reach the portal.
FEDPORTAL_PUBLIC_URL = env("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
# Where Redis or Valkey listens; empty in embedded mode.
FEDPORTAL_REDIS_URL = env("REDIS_URL")
# sqlite (a file in the data folder) or postgresql://user:password@host:port/name.
FEDPORTAL_DATABASE_URL = env("DATABASE_URL", "sqlite")
# Secret of sessions and links; at least 50 characters in production.
SECRET_KEY = env("SECRET_KEY")
# Secret under which keys are stored (HMAC-SHA256); at least 32 characters in production.
FEDPORTAL_PEPPER = env("PEPPER")
# Pages with details of errors; never in production.
DEBUG = env("DEBUG") == "1"
# Host names the portal answers to, separated by commas.
ALLOWED_HOSTS = [
    *filter(None, env("ALLOWED_HOSTS").split(",")),
    *([] if FEDPORTAL_MODE == "production" else ["127.0.0.1", "localhost", "[::1]", "testserver"]),
]
# smtps://user:password@host:port, smtp+tls://… or smtp://… (not encrypted); empty shows letters on the console.
FEDPORTAL_EMAIL_URL = env("EMAIL_URL")
# The sender of letters.
DEFAULT_FROM_EMAIL = env("EMAIL_FROM", "fedportal@localhost")
# Single sign-on: the address (issuer) of an OpenID Connect provider; empty turns it off.
FEDPORTAL_OIDC_URL = env("OIDC_URL").rstrip("/")
# The portal's client id at this provider.
FEDPORTAL_OIDC_CLIENT_ID = env("OIDC_CLIENT_ID")
# The portal's client secret at this provider.
FEDPORTAL_OIDC_CLIENT_SECRET = env("OIDC_CLIENT_SECRET")
# What the sign-in page calls this provider.
FEDPORTAL_OIDC_NAME = env("OIDC_NAME", "single sign-on")
# Seconds without a sign of life after which a device no longer counts as available.
FEDPORTAL_PRESENCE_SECONDS = int(env("PRESENCE_SECONDS", "60"))
# Seconds between two passes of the sweeper.
FEDPORTAL_SWEEP_SECONDS = float(env("SWEEP_SECONDS", "10"))
# Seconds a worker's claim on a round holds without being renewed.
FEDPORTAL_LEASE_SECONDS = float(env("LEASE_SECONDS", "30"))
# Seconds that devices have for each step of a session of secure aggregation; for sending a vector, one more per 250 kB.
FEDPORTAL_MASKING_SECONDS = float(env("MASKING_SECONDS", "60"))
# Largest model file, in bytes.
FEDPORTAL_MAX_MODEL_BYTES = int(env("MAX_MODEL_BYTES", str(8 << 30)))
# Largest number of samples a device may claim for one update.
FEDPORTAL_MAX_SAMPLES = int(env("MAX_SAMPLES", "10000000"))
# Jobs at a time in the embedded portal.
FEDPORTAL_WORKER_THREADS = int(env("WORKER_THREADS", "4"))
# Threads that combine updates in one worker.
FEDPORTAL_AGGREGATION_THREADS = int(env("AGGREGATION_THREADS", str(min(4, os.cpu_count() or 1))))
# From so many numbers (parameters x updates of a round) on a model is made in parts, by all workers; 0: never.
FEDPORTAL_SHARD_FROM = int(env("SHARD_FROM", "1000000000"))
# 1 when a proxy stands in front, whose X-Forwarded-Proto is then believed.
FEDPORTAL_BEHIND_PROXY = env("BEHIND_PROXY") == "1"
# Servers of this machine, host:port separated by commas, to which webhooks may go; for tests, never in production.
FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset(filter(None, env("WEBHOOK_TEST_HOSTS").split(",")))
# 1 allows http:// in production; for test networks only.
INSECURE_HTTP = env("INSECURE_HTTP") == "1"
# 1 allows `FEDPORTAL_FAULT` (a point at which the process kills itself) in production; for crash tests only.
ALLOW_FAULTS = env("ALLOW_FAULTS") == "1"
# What is logged: DEBUG, INFO, WARNING or ERROR.
LOG_LEVEL = env("LOG_LEVEL", "WARNING")

PRODUCTION = FEDPORTAL_MODE == "production"
if FEDPORTAL_MODE not in ("embedded", "production"):
    raise ImproperlyConfigured("FEDPORTAL_MODE must be embedded or production.")


SHORTEST_SECRET = 32


def _local_secret(name: str) -> str:
    """A secret of this installation, made once and kept in the data folder (embedded mode only)."""
    path = FEDPORTAL_DATA_DIR / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Complete or absent, whoever is killed and whoever else is at it.
        draft = path.with_name(f"{name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(64))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    found = path.read_text()
    if len(found) < SHORTEST_SECRET:
        raise ImproperlyConfigured(f"{path} is damaged: bring it back from a backup, or remove it to end all keys.")
    return found


if PRODUCTION:
    unsafe = [
        reason
        for wrong, reason in (
            (len(SECRET_KEY) < 50, "FEDPORTAL_SECRET_KEY must have at least 50 characters"),
            (len(FEDPORTAL_PEPPER) < 32, "FEDPORTAL_PEPPER must have at least 32 characters"),
            (DEBUG, "FEDPORTAL_DEBUG must not be set"),
            (len(set(SECRET_KEY)) < 10, "FEDPORTAL_SECRET_KEY must be random"),
            (len(set(FEDPORTAL_PEPPER)) < 10, "FEDPORTAL_PEPPER must be random"),
            (SECRET_KEY == FEDPORTAL_PEPPER, "FEDPORTAL_PEPPER must differ from FEDPORTAL_SECRET_KEY"),
            (
                not ALLOWED_HOSTS or any("*" in host for host in ALLOWED_HOSTS),
                "FEDPORTAL_ALLOWED_HOSTS must name the portal's hosts, without *",
            ),
            (not FEDPORTAL_EMAIL_URL, "FEDPORTAL_EMAIL_URL must name a mail server: links in letters prove addresses"),
            (
                not FEDPORTAL_DATABASE_URL.startswith("postgres"),
                "FEDPORTAL_DATABASE_URL must name a PostgreSQL database",
            ),
            (not FEDPORTAL_REDIS_URL, "FEDPORTAL_REDIS_URL must name a Redis or Valkey server"),
            ("FEDPORTAL_FAULT" in os.environ and not ALLOW_FAULTS, "FEDPORTAL_FAULT is for tests only"),
            (bool(FEDPORTAL_WEBHOOK_TEST_HOSTS), "FEDPORTAL_WEBHOOK_TEST_HOSTS is for tests only"),
            (
                not FEDPORTAL_PUBLIC_URL.startswith("https://") and not INSECURE_HTTP,
                "FEDPORTAL_PUBLIC_URL must begin with https:// (FEDPORTAL_INSECURE_HTTP=1 allows http for tests)",
            ),
            (
                FEDPORTAL_OIDC_URL and not FEDPORTAL_OIDC_URL.startswith("https://") and not INSECURE_HTTP,
                "FEDPORTAL_OIDC_URL must begin with https://",
            ),
        )
        if wrong
    ]
    if unsafe:
        raise ImproperlyConfigured("Unsafe production settings: " + "; ".join(unsafe) + ".")
else:
    if DEBUG and urlsplit(FEDPORTAL_PUBLIC_URL).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ImproperlyConfigured("FEDPORTAL_DEBUG must not be set where others reach the portal.")
    SECRET_KEY = SECRET_KEY or _local_secret("secret_key")
    FEDPORTAL_PEPPER = FEDPORTAL_PEPPER or _local_secret("pepper")

if FEDPORTAL_OIDC_URL and not FEDPORTAL_OIDC_CLIENT_ID:
    raise ImproperlyConfigured("FEDPORTAL_OIDC_URL needs FEDPORTAL_OIDC_CLIENT_ID.")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "guardian",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "federations",
    "registry",
    "training",
]
MIDDLEWARE = [
    "fedportal.probes.probes",
    "django.middleware.security.SecurityMiddleware",
    "fedportal.security_headers.security_headers",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "federations.web.operators.for_operators_only",
    "federations.web.operators.second_factor_for_operators",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "fedportal.urls"
ASGI_APPLICATION = "fedportal.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["federations.templatetags.pages"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "federations.web.shell.shell",
            ],
        },
    }
]


# What a PostgreSQL address may say after its question mark.
DATABASE_OPTIONS = frozenset(
    ("host", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name", "options")
)


def _database(url: str) -> dict[str, object]:
    if url == "sqlite" or url.startswith("sqlite:"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.removeprefix("sqlite:///") if ":///" in url else FEDPORTAL_DATA_DIR / "fedportal.sqlite3",
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000;",
            },
        }
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if unknown := sorted(query.keys() - DATABASE_OPTIONS):
        raise ImproperlyConfigured(f"FEDPORTAL_DATABASE_URL has no option {unknown[0]}.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(query.get("host", parts.hostname or "")),
        "PORT": str(parts.port or ""),
        "OPTIONS": {name: value for name, value in query.items() if name != "host"},
        "CONN_MAX_AGE": 300,
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {"default": _database(FEDPORTAL_DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "federations.Person"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"]
ANONYMOUS_USER_NAME = None
GUARDIAN_RAISE_403 = False
PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{name}PasswordHasher" for name in ("Argon2", "PBKDF2")]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/sign-in"

# allauth keeps the steps of a sign-in, proven addresses, second factors, linked single sign-on and lists of sessions.
# Its own counting of tries is off: it would count in the memory of each process; see federations.services.throttle.
ACCOUNT_ADAPTER = "federations.adapters.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_RATE_LIMITS = MFA_RATE_LIMITS = False
MFA_ADAPTER = "federations.adapters.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "fedportal"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODE_DIGITS = 10
SOCIALACCOUNT_ADAPTER = "federations.adapters.SingleSignOnAdapter"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/sign-in"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "federations.authentication.KeyAuthentication",
        "federations.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "fedportal.common.api.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "fedportal",
    "VERSION": "1",
    "DESCRIPTION": "Federated learning between organizations: the owner's, member's and device's API.",
    "SERVE_AUTHENTICATION": [],  # the description is public, whatever key comes with the question
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "fedportal.door.description.add_to_schema",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# A Redis that is silent must not hold up who writes. A layer's socket waits five seconds for a message by itself.
REDIS_PATIENCE = {"socket_connect_timeout": 2, "socket_timeout": 10}
CHANNEL_LAYERS = {
    "default": (
        {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [{"address": FEDPORTAL_REDIS_URL, **REDIS_PATIENCE}], "capacity": 1000},
        }
        if FEDPORTAL_REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
    )
}

CELERY_BROKER_URL = FEDPORTAL_REDIS_URL or "waking://localhost/"  # in memory: fedportal.common.broker
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = REDIS_PATIENCE | {"visibility_timeout": 60} if FEDPORTAL_REDIS_URL else {}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

EMAIL_TIMEOUT = 10
if FEDPORTAL_EMAIL_URL:
    _mail = urlsplit(FEDPORTAL_EMAIL_URL)
    if _mail.scheme not in ("smtp", "smtp+tls", "smtps"):
        raise ImproperlyConfigured("FEDPORTAL_EMAIL_URL must begin with smtp://, smtp+tls:// or smtps://.")
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST = _mail.hostname or "localhost"
    EMAIL_PORT = _mail.port or (465 if _mail.scheme == "smtps" else 25)
    EMAIL_HOST_USER = unquote(_mail.username or "")
    EMAIL_HOST_PASSWORD = unquote(_mail.password or "")
    EMAIL_USE_SSL = _mail.scheme == "smtps"
    EMAIL_USE_TLS = _mail.scheme == "smtp+tls"
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
FILE_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_SERIALIZER = "django.contrib.sessions.serializers.JSONSerializer"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "federations.web.errors.too_old"
CSRF_TRUSTED_ORIGINS = [FEDPORTAL_PUBLIC_URL] if "://" in FEDPORTAL_PUBLIC_URL else []
if PRODUCTION and FEDPORTAL_PUBLIC_URL.startswith("https://"):
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_SSL_REDIRECT = True
# Whether browsers shall know by heart that a domain has HTTPS only is for its owner to decide; it is hard to take back.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
if FEDPORTAL_BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = FEDPORTAL_DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if PRODUCTION
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        )
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "fedportal.common.logs.Line", "fmt": "{asctime} {levelname} {name}: {message}", "style": "{"}
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "stream": sys.stderr}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
}
