"""An open database with a transaction that spans several steps."""

import sqlite3
import threading

import told

database = sqlite3.connect("rows.db", check_same_thread=False)
database.execute("pragma journal_mode=wal")
database.execute("create table rows (number integer primary key, text text)")
database.commit()
lock = threading.Lock()


def step(count):
    with lock:
        database.execute("insert into rows values (?, ?)", (count, "row %d" % count))
        if count % 5 == 0:
            database.commit()
        rows = database.execute("select count(*), max(number) from rows").fetchone()
        whole = database.execute("pragma integrity_check").fetchone()[0]
    return {"rows": rows[0], "last": rows[1]}, {"whole": whole}, {}


told.serve(step)
