"""django-db-mutex as a subject: says the same to the runner as a worker in Rust (see ../src/worker.rs).

Each task is a thread with a connection of its own, as Django has it.
"""
import json
import resource
import sys
import threading
import time
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

spec = json.loads(sys.stdin.readline())
url = urlsplit(spec["url"])
settings.configure(
    INSTALLED_APPS=["db_mutex"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": unquote(url.username),
            "PASSWORD": unquote(url.password), "HOST": url.hostname, "PORT": url.port,
            # Without it Django connects anew for each request; here nothing ends a request.
            "CONN_MAX_AGE": None,
        }
    },
    USE_TZ=True,
    DB_MUTEX_TTL_SECONDS=60,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from db_mutex.db_mutex import db_mutex  # noqa: E402

with connection.cursor() as cursor:
    # Several processes start at once, and Django's migrations do not wait for each other.
    cursor.execute("SELECT pg_advisory_lock(1)")
    call_command("migrate", verbosity=0)
    # What an earlier round has left. Not that of the processes beside this one, which may have begun.
    cursor.execute("DELETE FROM db_mutex_dbmutex WHERE lock_id LIKE %s", [f"%-{spec['process']}-%"])
    cursor.execute("SELECT pg_advisory_unlock(1)")

millis = spec["work"]["load"]["millis"]
ready, go = threading.Barrier(spec["tasks"] + 1), threading.Event()
times, errors = [], []


def pairs(task):
    try:
        own = []
        with db_mutex(f"warm-up-{spec['process']}-{task}"):
            pass
        ready.wait()
        go.wait()
        end = time.perf_counter() + millis / 1000
        number = 0
        while (begun := time.perf_counter_ns()) < end * 1e9:
            number += 1
            with db_mutex(f"{number}-{spec['process']}-{task}"):
                pass
            own.append(time.perf_counter_ns() - begun)
        times.extend(own)
    except BaseException as error:
        errors.append(error)
        ready.abort()


threads = [threading.Thread(target=pairs, args=(task,)) for task in range(spec["tasks"])]
for thread in threads:
    thread.start()
ready.wait()
print("ready", flush=True)
sys.stdin.readline()


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


begun, used = time.perf_counter(), cpu()
go.set()
for thread in threads:
    thread.join()
seconds, used = time.perf_counter() - begun, cpu() - used
if errors:
    raise errors[0]
latencies = {}
for taken in times:
    unit = 10 ** max(len(str(taken)) - 3, 0)
    latencies[taken // unit * unit] = latencies.get(taken // unit * unit, 0) + 1
print(json.dumps({"seconds": seconds, "count": len(times), "cpu": used, "latencies": latencies}), flush=True)
# Its connections stay open until the server's CPU was read.
sys.stdin.readline()
