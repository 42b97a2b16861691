"""A Django project in one file, and the jobs of the tests. Its lock is `db_mutex` of django-db-mutex, as it is.

    jobs.py migrate                 makes the tables, as `manage.py migrate` does
    jobs.py count COUNTER TIMES     prints `ready`, waits for the file, and increments the number in it, each time under the
                                    lock `counter`
    jobs.py try                     for each lock id in its input, prints `acquired`, or `held` for a DBMutexError
    jobs.py hold LOCK_ID            prints `acquired` or `held`; ends at the end of its input, and prints how: `released`, or
                                    `timed out` for a DBMutexTimeoutError
    jobs.py delete LOCK_ID          deletes the row, as an administrator would

The environment says where the database is (DATABASE: a file of SQLite or the URL of a PostgreSQL server, with a schema in its
options) and what the settings have as DB_MUTEX_TTL_SECONDS.
"""
import os
import sys
import time
from urllib.parse import parse_qs, unquote, urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection


def database(place):
    if not place.startswith("postgres"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": place, "OPTIONS": {"timeout": 30}}
    url = urlsplit(place)
    return {
        "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": unquote(url.username),
        "PASSWORD": unquote(url.password), "HOST": url.hostname, "PORT": url.port,
        "OPTIONS": {"options": parse_qs(url.query)["options"][0]},
    }


ttl = os.environ.get("DB_MUTEX_TTL_SECONDS")
settings.configure(
    INSTALLED_APPS=["db_mutex"],
    DATABASES={"default": database(os.environ["DATABASE"])},
    USE_TZ=True,
    **({} if ttl is None else {"DB_MUTEX_TTL_SECONDS": None if ttl == "none" else float(ttl)}),
)
django.setup()

from db_mutex.db_mutex import db_mutex  # noqa: E402
from db_mutex.exceptions import DBMutexError, DBMutexTimeoutError  # noqa: E402
from db_mutex.models import DBMutex  # noqa: E402


@db_mutex("counter")
def increment(counter):
    with open(counter) as file:
        number = int(file.read())
    time.sleep(0.002)
    with open(counter, "w") as file:
        file.write(f"{number + 1}\n")
    with open(f"{counter}.turns", "a") as file:
        file.write("django\n")


def migrate():
    if connection.vendor == "postgresql":
        schema = connection.settings_dict["OPTIONS"]["options"].split("=")[1]
        connection.cursor().execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    call_command("migrate", verbosity=0)


def count(counter, times):
    print("ready", flush=True)
    while not os.path.exists(counter):
        time.sleep(0.005)
    for _ in range(int(times)):
        while True:
            try:
                increment(counter)
                break
            except DBMutexError:
                time.sleep(0.005)


def hold(lock_id):
    try:
        with db_mutex(lock_id):
            print("acquired", flush=True)
            sys.stdin.read()
        print("released", flush=True)
    except DBMutexError:
        print("held", flush=True)
    except DBMutexTimeoutError:
        print("timed out", flush=True)


def try_each():
    for line in sys.stdin:
        try:
            with db_mutex(line.strip()):
                print("acquired", flush=True)
        except DBMutexError:
            print("held", flush=True)


job, *arguments = sys.argv[1:]
jobs = {
    "migrate": migrate,
    "count": count,
    "try": try_each,
    "hold": hold,
    "delete": lambda lock_id: DBMutex.objects.filter(lock_id=lock_id).delete(),
}
jobs[job](*arguments)
