"""A Django project in one file, and the jobs of the tests. Its lock is `db_mutex` of django-db-mutex, as it is.

    jobs.py migrate                 makes the tables, as `manage.py migrate` does
    jobs.py count COUNTER TIMES     prints `ready`, waits for the file, and increments the number in it, each time under the
                                    lock `counter`
    jobs.py try LOCK_ID             prints `acquired`, or `held` for a DBMutexError
    jobs.py hold LOCK_ID            prints `acquired` or `held`; ends at the end of its input, and prints how: `released`, or
                                    `timed out` for a DBMutexTimeoutError
    jobs.py delete LOCK_ID          deletes the row, as an administrator would

The environment says where the database is (DATABASE) and what the settings have as DB_MUTEX_TTL_SECONDS.
"""
import os
import sys
import time

import django
from django.conf import settings
from django.core.management import call_command

ttl = os.environ.get("DB_MUTEX_TTL_SECONDS")
settings.configure(
    INSTALLED_APPS=["db_mutex"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"],
                           "OPTIONS": {"timeout": 30}}},
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


def try_once(lock_id):
    try:
        with db_mutex(lock_id):
            print("acquired")
    except DBMutexError:
        print("held")


job, *arguments = sys.argv[1:]
jobs = {
    "migrate": lambda: call_command("migrate", verbosity=0),
    "count": count,
    "try": try_once,
    "hold": hold,
    "delete": lambda lock_id: DBMutex.objects.filter(lock_id=lock_id).delete(),
}
jobs[job](*arguments)
