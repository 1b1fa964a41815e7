// What containers used lately, gathered from what is polled anyway.

import type { Workspace } from "./types";

/** So many samples make a plot. */
const KEPT = 60;

export interface Sample {
  /** Of one CPU, in percent. */
  cpu: number;
  /** In bytes. */
  memory: number;
}

interface Track {
  generation: number;
  at: number;
  cpuSeconds: number;
  samples: Sample[];
}

export class History {
  readonly #tracks = new Map<string, Track>();

  /** Takes note of a look at a workspace. */
  note(workspace: Workspace): void {
    const { container_id: id, generation, usage } = workspace;
    if (usage === undefined) {
      this.#tracks.delete(id);
      return;
    }
    const at = Date.parse(usage.sampled_at) / 1000;
    const known = this.#tracks.get(id);
    const track = { generation, at, cpuSeconds: usage.cpu_seconds };
    // A new container counts from nothing again.
    if (known === undefined || known.generation !== generation || usage.cpu_seconds < known.cpuSeconds) {
      this.#tracks.set(id, { ...track, samples: [] });
      return;
    }
    if (at <= known.at) return;
    const cpu = ((usage.cpu_seconds - known.cpuSeconds) / (at - known.at)) * 100;
    const samples = [...known.samples, { cpu, memory: usage.memory_bytes }].slice(-KEPT);
    this.#tracks.set(id, { ...track, samples });
  }

  /** Oldest first. */
  of(container: string): Sample[] {
    return this.#tracks.get(container)?.samples ?? [];
  }

  /** Forgets all but these. */
  keep(containers: Set<string>): void {
    for (const id of this.#tracks.keys()) {
      if (!containers.has(id)) this.#tracks.delete(id);
    }
  }
}
