// The connection to a terminal in a workspace: introduces itself, counts what it has received, and
// when it breaks takes up again where it was.
//
// Must never happen here: the key in an address, or output shown twice.

/** What a link needs of a websocket; the browser's has it. */
export interface Socket {
  binaryType: BinaryType;
  readonly readyState: number;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(): void;
}

export type Standing = "connecting" | "live" | "asleep" | "broken" | "ended";

export interface Ends {
  /** Opens a socket to the terminal, from this byte of its output on. */
  connect: (offset: number | undefined) => Socket;
  /** The first message. */
  introduction: string;
  output: (bytes: Uint8Array) => void;
  /** Words of the link itself, for who looks at the terminal. */
  remark: (text: string) => void;
  standing: (standing: Standing, exitCode?: number) => void;
  later?: (run: () => void, millis: number) => unknown;
}

interface Message {
  type?: unknown;
  offset?: unknown;
  bytes?: unknown;
  woken?: unknown;
  exit_code?: unknown;
}

const OPEN = 1;
const MISSED = "some output was missed";
/** What is pasted goes in pieces: the other end takes 64 KiB at once. */
const MESSAGE_MAX = 32 * 1024;
/** Before the first new attempt; each further one waits twice as long. */
const RETRY_MILLIS = 500;
const RETRY_MILLIS_MAX = 15_000;
const ATTEMPTS = 12;
/** What is typed while there is no connection waits for it, up to so many bytes. */
const WAITING_MAX = 4096;

export class Link {
  readonly #ends: Ends;
  #socket: Socket | undefined;
  /** The number of the next byte of output. */
  #offset: number | undefined;
  #isReady = false;
  #isOver = false;
  #failures = 0;
  #waiting: Uint8Array<ArrayBuffer>[] = [];
  #size: { cols: number; rows: number };

  constructor(ends: Ends, size: { cols: number; rows: number }) {
    this.#ends = ends;
    this.#size = size;
    this.#connect();
  }

  input(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#isOver) return;
    if (this.#isReady && this.#socket?.readyState === OPEN) {
      for (let start = 0; start < bytes.length; start += MESSAGE_MAX) {
        this.#socket.send(bytes.subarray(start, start + MESSAGE_MAX));
      }
      return;
    }
    const waits = this.#waiting.reduce((sum, one) => sum + one.length, 0);
    if (waits + bytes.length <= WAITING_MAX) this.#waiting.push(bytes);
  }

  resize(cols: number, rows: number): void {
    if (cols === this.#size.cols && rows === this.#size.rows) return;
    this.#size = { cols, rows };
    if (this.#isReady) this.#sendSize();
  }

  /** Lets go of it; the terminal goes on. */
  close(): void {
    this.#isOver = true;
    this.#socket?.close();
  }

  #connect(): void {
    this.#ends.standing("connecting");
    const socket = this.#ends.connect(this.#offset);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(this.#ends.introduction);
    socket.onmessage = (event) => {
      if (this.#socket !== socket || this.#isOver) return;
      if (event.data instanceof ArrayBuffer) this.#received(new Uint8Array(event.data));
      else if (typeof event.data === "string") this.#told(event.data);
    };
    socket.onclose = (event) => {
      if (this.#socket !== socket || this.#isOver) return;
      this.#lost(event);
    };
    this.#socket = socket;
  }

  #received(bytes: Uint8Array): void {
    this.#offset = (this.#offset ?? 0) + bytes.length;
    this.#ends.output(bytes);
  }

  #told(text: string): void {
    let message: Message;
    try {
      message = JSON.parse(text) as Message;
    } catch {
      return;
    }
    switch (message.type) {
      case "ready":
        this.#ready(message);
        break;
      case "gap":
        if (typeof message.bytes === "number") this.#offset = (this.#offset ?? 0) + message.bytes;
        this.#ends.remark(MISSED);
        break;
      case "asleep":
        this.#ends.standing("asleep");
        break;
      case "awake":
        if (message.woken === "volume") this.#ends.remark("it started anew from its files");
        this.#ends.standing("live");
        break;
      case "exit":
        this.#isOver = true;
        this.#ends.standing("ended", typeof message.exit_code === "number" ? message.exit_code : 0);
        this.#socket?.close();
        break;
    }
  }

  #ready(message: Message): void {
    this.#isReady = true;
    this.#failures = 0;
    if (typeof message.offset === "number") {
      const isCut = this.#offset !== undefined && message.offset > this.#offset;
      this.#offset = message.offset;
      if (isCut) this.#ends.remark(MISSED);
    }
    this.#ends.standing("live");
    this.#sendSize();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const bytes of waiting) this.#socket?.send(bytes);
  }

  #sendSize(): void {
    this.#socket?.send(JSON.stringify({ type: "resize", ...this.#size }));
  }

  #lost(event: CloseEvent): void {
    this.#isReady = false;
    this.#failures += 1;
    // Refused for good: the key, the terminal's name, or the terminal is no more.
    const refused = event.code >= 4000 && event.code < 5000;
    if (refused || this.#failures > ATTEMPTS) {
      this.#isOver = true;
      this.#ends.remark(event.reason || "the connection is lost");
      this.#ends.standing("broken");
      return;
    }
    this.#ends.standing("connecting");
    const wait = Math.min(RETRY_MILLIS_MAX, RETRY_MILLIS * 2 ** (this.#failures - 1));
    const later = this.#ends.later ?? ((run, millis) => setTimeout(run, millis));
    later(() => {
      if (!this.#isOver) this.#connect();
    }, wait);
  }
}
