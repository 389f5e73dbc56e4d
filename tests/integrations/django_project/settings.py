SECRET_KEY = "of the tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.integrations.django_project.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
MIDDLEWARE = [
    "sqlsessions.integrations.django.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
AUTHENTICATION_BACKENDS = ["tests.integrations.django_project.urls.Users"]
SESSION_ENGINE = "sqlsessions.integrations.django"
SQLSESSIONS = {"storage": "sqlsessions.SessionStorageMemory"}
LOGGING_CONFIG = None
