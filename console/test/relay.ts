// A wire between the browser and the platform that can be cut.
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";

export class Relay {
  readonly #ends = new Set<Socket>();
  #isCut = false;

  private constructor(readonly server: Server) {}

  static async open(to: string): Promise<Relay> {
    const { hostname, port } = new URL(to);
    const server = createServer();
    const relay = new Relay(server);
    server.on("connection", (near) => {
      if (relay.#isCut) {
        near.destroy();
        return;
      }
      const far = connect(Number(port), hostname);
      for (const end of [near, far]) {
        relay.#ends.add(end);
        end.on("close", () => relay.#ends.delete(end));
      }
      tie(near, far);
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return relay;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Every connection ends in the middle, and no new one is made until `mend`. */
  cut(): void {
    this.#isCut = true;
    for (const end of this.#ends) end.destroy();
  }

  mend(): void {
    this.#isCut = false;
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}

/** What one end says the other hears, and one ends with the other. */
export function tie(near: Socket, far: Socket): void {
  for (const [end, other] of [[near, far], [far, near]] as const) {
    end.pipe(other);
    end.on("error", () => other.destroy());
    end.on("close", () => other.destroy());
  }
}
