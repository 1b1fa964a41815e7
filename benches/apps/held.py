"""A server with a connection that stays open. Usage: held.py kept|closed: what the runtime's sleep
does to connections; a closed one is made again."""

import socket
import threading

import told

kept = told.arguments() == ["kept"]
server = socket.create_server(("127.0.0.1", 5001))
lock, made, asked = threading.Lock(), 0, 0


def answer(connection):
    with connection, connection.makefile("rw") as lines:
        for line in lines:
            lines.write("%d\n" % (int(line) * 2))
            lines.flush()


def accept():
    while True:
        threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


def connect():
    global made
    made += 1
    return socket.create_connection(("127.0.0.1", 5001), timeout=5).makefile("rw")


def ask(number):
    line.write("%d\n" % number)
    line.flush()
    return int(line.readline()) // 2


threading.Thread(target=accept, daemon=True).start()
line = connect()


def step(count):
    global line
    with lock:
        try:
            heard = ask(count)
        except (OSError, ValueError):
            if kept:
                raise
            line = connect()
            heard = ask(count)
    return {"heard": heard}, {"connections": made if kept else 0}, {}


told.serve(step)
