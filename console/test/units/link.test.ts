import assert from "node:assert/strict";
import { test } from "node:test";
import { Link, type Socket, type Standing } from "../../src/terminal/link";

class Wire implements Socket {
  binaryType: BinaryType = "blob";
  readyState = 1;
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  readonly sent: (string | Uint8Array)[] = [];
  closed = false;

  constructor(readonly offset: number | undefined) {}

  send(data: string | Uint8Array<ArrayBuffer>) {
    this.sent.push(data);
  }

  close() {
    this.closed = true;
    this.readyState = 3;
  }

  says(message: object) {
    this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
  }

  shows(text: string) {
    const bytes = new TextEncoder().encode(text);
    this.onmessage?.({ data: bytes.buffer } as MessageEvent);
  }

  breaks(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason } as CloseEvent);
  }
}

function linked() {
  const wires: Wire[] = [];
  const seen: { standing: Standing[]; output: string; remarks: string[]; waits: number[]; exit?: number } = {
    standing: [],
    output: "",
    remarks: [],
    waits: [],
  };
  const link = new Link(
    {
      connect: (offset) => {
        const wire = new Wire(offset);
        wires.push(wire);
        return wire;
      },
      introduction: "hello",
      output: (bytes) => {
        seen.output += new TextDecoder().decode(bytes);
      },
      remark: (text) => seen.remarks.push(text),
      standing: (standing, exit) => {
        seen.standing.push(standing);
        if (exit !== undefined) seen.exit = exit;
      },
      later: (run, millis) => {
        seen.waits.push(millis);
        run();
      },
    },
    { cols: 80, rows: 24 },
  );
  const last = () => wires.at(-1) as Wire;
  last().onopen?.({} as Event);
  return { link, wires, seen, last };
}

const bytes = (text: string) => new TextEncoder().encode(text);

test("it introduces itself, and holds what is typed until it is heard", () => {
  const { link, seen, last } = linked();
  assert.deepEqual(last().sent, ["hello"]);
  link.input(bytes("ls\n"));
  assert.deepEqual(last().sent, ["hello"]);
  last().says({ type: "ready", offset: 0 });
  assert.deepEqual(last().sent.slice(1), ['{"type":"resize","cols":80,"rows":24}', bytes("ls\n")]);
  link.resize(100, 30);
  link.resize(100, 30);
  assert.deepEqual(last().sent.slice(3), ['{"type":"resize","cols":100,"rows":30}']);
  assert.deepEqual(seen.standing, ["connecting", "live"]);
});

test("broken, it goes on where it was", () => {
  const { seen, wires, last } = linked();
  assert.equal(last().offset, undefined);
  last().says({ type: "ready", offset: 1000 });
  last().shows("abc");
  last().breaks();
  assert.equal(wires.length, 2);
  assert.equal(last().offset, 1003);
  last().says({ type: "ready", offset: 1003 });
  last().says({ type: "gap", bytes: 997 });
  last().shows("def");
  last().breaks();
  assert.equal(last().offset, 2003);
  assert.equal(seen.output, "abcdef");
  assert.deepEqual(seen.remarks, ["some output was missed"]);
});

test("what is not kept any more is missed, and said to be", () => {
  const { seen, last } = linked();
  last().says({ type: "ready", offset: 500 });
  assert.deepEqual(seen.remarks, [], "nothing was seen before");
  last().shows("abc");
  last().breaks();
  assert.equal(last().offset, 503);
  last().says({ type: "ready", offset: 600 });
  assert.deepEqual(seen.remarks, ["some output was missed"]);
  last().breaks();
  assert.equal(last().offset, 600);
});

test("what an old connection says is not heard", () => {
  const { seen, wires, last } = linked();
  last().breaks();
  wires[0]?.shows("late");
  wires[0]?.breaks();
  assert.equal(seen.output, "");
  assert.equal(wires.length, 2);
});

test("it sleeps, wakes and ends", () => {
  const { link, seen, wires, last } = linked();
  last().says({ type: "ready", offset: 0 });
  last().says({ type: "asleep" });
  last().says({ type: "awake", woken: "volume" });
  last().says({ type: "exit", exit_code: 3 });
  last().breaks();
  link.input(bytes("x"));
  assert.deepEqual(seen.standing, ["connecting", "live", "asleep", "live", "ended"]);
  assert.equal(seen.exit, 3);
  assert.equal(wires.length, 1, "what has ended is not connected again");
  assert.ok(last().closed);
});

test("it gives up when it is refused, and after many tries", () => {
  const refused = linked();
  refused.last().breaks(4401, "invalid API key");
  assert.deepEqual([refused.wires.length, refused.seen.standing.at(-1)], [1, "broken"]);
  assert.deepEqual(refused.seen.remarks, ["invalid API key"]);
  const alone = linked();
  for (let tries = 0; tries < 40; tries += 1) alone.last().breaks();
  assert.equal(alone.wires.length, 13);
  assert.deepEqual(alone.seen.waits.slice(0, 3), [500, 1000, 2000]);
  assert.equal(Math.max(...alone.seen.waits), 15_000);
});

test("a large paste goes in pieces", () => {
  const { link, last } = linked();
  last().says({ type: "ready", offset: 0 });
  link.input(new Uint8Array(70_000));
  const sizes = last().sent.slice(2).map((sent) => sent.length);
  assert.deepEqual(sizes, [32_768, 32_768, 4464]);
});

test("nonsense, and too much that is typed, is dropped", () => {
  const { link, seen, last } = linked();
  link.input(new Uint8Array(5000));
  link.input(bytes("ok"));
  last().onmessage?.({ data: "{" } as MessageEvent);
  last().says({ type: 7 });
  last().says({ type: "ready" });
  assert.deepEqual(last().sent.slice(2), [bytes("ok")]);
  assert.deepEqual(seen.remarks, []);
});
