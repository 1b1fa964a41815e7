// All workspaces of the key's owner: how they stand, and what can be done with each.

import { useState } from "preact/hooks";
import { withQuery } from "../api";
import { ago, bytes, percent, plural, sentence, span } from "../format";
import { useNow, usePoll, useSession, useSettled, useTitle } from "../hooks";
import type { Sample } from "../history";
import { Icon } from "../icons";
import { at } from "../router";
import type { Overview, State, Workspace } from "../types";
import { Button, Empty, Loading, Spark, STATES, StatePill, Trouble } from "../ui";
import { Actions } from "./actions";
import { Create } from "./create";

const EVERY_MILLIS = 3000;
const PAGE_SIZE = 50;

export function Workspaces() {
  useTitle("Workspaces");
  const { api, history } = useSession();
  const [typed, setTyped] = useState("");
  const [state, setState] = useState<State>();
  const [page, setPage] = useState(1);
  const [creating, setCreating] = useState(false);
  const search = useSettled(typed.trim(), 200);
  const { data, error, refresh } = usePoll(
    async (signal) => {
      const query = { search: search || undefined, state, page, page_size: PAGE_SIZE };
      const overview = await api.get<Overview>(withQuery("/api/v1/overview", query), signal);
      for (const workspace of overview.workspaces) history.note(workspace);
      return overview;
    },
    EVERY_MILLIS,
    [api, search, state, page],
  );
  const pages = data ? Math.max(1, Math.ceil(data.total / PAGE_SIZE)) : 1;

  return (
    <div class="page">
      <div class="page-head">
        <h1>Workspaces</h1>
        <label class="search">
          <Icon name="search" />
          <span class="unseen">Search workspaces</span>
          <input
            type="search"
            placeholder="Search"
            data-shortcut="/"
            value={typed}
            onInput={(event) => {
              setTyped(event.currentTarget.value);
              setPage(1);
            }}
          />
          <kbd aria-hidden="true">/</kbd>
        </label>
        <span data-shortcut="n" onClick={() => setCreating(true)} hidden />
        <Button kind="primary" icon="plus" onClick={() => setCreating(true)}>
          New workspace
        </Button>
      </div>
      {data && (
        <Filters
          states={data.states}
          chosen={state}
          onChoose={(chosen) => {
            setState(chosen);
            setPage(1);
          }}
        />
      )}
      <Trouble error={error} />
      {data === undefined ? (
        error === undefined && <Loading what="workspaces" />
      ) : data.workspaces.length === 0 ? (
        <None searched={search !== "" || state !== undefined} onCreate={() => setCreating(true)} />
      ) : (
        <ul class="rows" aria-label="Workspaces">
          {data.workspaces.map((workspace) => (
            <Row key={workspace.container_id} workspace={workspace} onChange={refresh} />
          ))}
        </ul>
      )}
      {pages > 1 && (
        <nav class="pager" aria-label="Pages">
          <Button disabled={page <= 1} onClick={() => setPage(page - 1)}>
            Previous
          </Button>
          <span>
            Page {page} of {pages}
          </span>
          <Button disabled={page >= pages} onClick={() => setPage(page + 1)}>
            Next
          </Button>
        </nav>
      )}
      {creating && <Create onClose={() => setCreating(false)} onMade={refresh} />}
    </div>
  );
}

interface FiltersProps {
  states: Overview["states"];
  chosen: State | undefined;
  onChoose: (state: State | undefined) => void;
}

function Filters({ states, chosen, onChoose }: FiltersProps) {
  const known = (Object.keys(STATES) as State[]).filter((state) => states[state] || state === chosen);
  const all = Object.values(states).reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  return (
    <div class="chips" role="group" aria-label="Show only">
      <button type="button" class="chip" aria-pressed={chosen === undefined} onClick={() => onChoose(undefined)}>
        All <b>{all}</b>
      </button>
      {known.map((state) => (
        <button
          key={state}
          type="button"
          class={`chip ${STATES[state].tone}`}
          aria-pressed={chosen === state}
          onClick={() => onChoose(chosen === state ? undefined : state)}
        >
          <span class="dot" aria-hidden="true" />
          {STATES[state].word} <b>{states[state] ?? 0}</b>
        </button>
      ))}
    </div>
  );
}

function None({ searched, onCreate }: { searched: boolean; onCreate: () => void }) {
  if (searched) return <Empty title="No workspace is like that." />;
  return (
    <Empty title="No workspaces yet">
      <p>A workspace is a sandbox with files, a shell and a URL. It sleeps when nobody uses it.</p>
      <Button kind="primary" icon="plus" onClick={onCreate}>
        Make the first one
      </Button>
    </Empty>
  );
}

function Row({ workspace, onChange }: { workspace: Workspace; onChange: () => void }) {
  const now = useNow(5000);
  const { project_id: project, usage, problem } = workspace;
  return (
    <li class="row">
      <div class="row-name">
        <a href={at(project)}>{project}</a>
        <span class="tag">{workspace.template}</span>
      </div>
      <div class="row-state">
        <StatePill state={workspace.lifecycle_state} />
        <p class={problem ? "small wrong" : "small soft"} title={workspace.kept_awake_by.join("; ")}>
          {problem ?? reason(workspace)}
        </p>
      </div>
      <div class="row-used soft small">
        Used <time dateTime={workspace.last_activity_at}>{ago(workspace.last_activity_at, now)}</time>
      </div>
      <Plots workspace={workspace} />
      <Actions workspace={workspace} onChange={onChange} compact />
      {usage === undefined && <span class="unseen">It uses nothing now.</span>}
    </li>
  );
}

/** The API's settings, in words. */
const SETTINGS: Record<string, string> = {
  "keep_alive is on": "Set never to sleep by itself",
  "idle_action is keep_alive": "Set to stay awake",
};

/** A reason to be awake, for people. */
export function because(text: string): string {
  return SETTINGS[text] ?? sentence(text);
}

/** What keeps it awake, or what becomes of it. When it was used last is said elsewhere. */
export function reason(workspace: Workspace): string {
  const { kept_awake_by: kept, time_remaining_seconds: left, lifecycle_state: state } = workspace;
  if (state === "hibernated") return workspace.auto_wake ? "Wakes when it is needed" : "Wakes only by hand";
  if (state === "stopped") return workspace.auto_wake ? "Starts when it is needed" : "Starts only by hand";
  const why = kept.filter((text) => !text.startsWith("it was used"));
  const more = why.length > 1 ? `, and ${plural(why.length - 1, "more reason")}` : "";
  if (why[0] !== undefined) return `${because(why[0])}${more}`;
  if (left === undefined) return "";
  return `${workspace.idle_action === "shutdown" ? "Stops" : "Sleeps"} in ${span(left)}`;
}

export function Plots({ workspace }: { workspace: Workspace }) {
  const { history } = useSession();
  const { usage } = workspace;
  if (usage === undefined) return <div class="plots" />;
  const samples = history.of(workspace.container_id);
  const cpu = samples.at(-1)?.cpu ?? 0;
  return (
    <div class="plots">
      <div class="plot">
        <Spark values={samples.map((sample) => sample.cpu)} top={20} tone="cpu" label={`CPU, now ${percent(cpu)}`} />
        <span class="small" aria-hidden="true">
          {percent(cpu)} <span class="soft">CPU</span>
        </span>
      </div>
      <div class="plot">
        <Spark
          values={samples.map((sample) => sample.memory)}
          top={memoryTop(samples)}
          tone="memory"
          label={`Memory, now ${bytes(usage.memory_bytes)} of ${bytes(usage.memory_limit_bytes)}`}
        />
        <span class="small" aria-hidden="true">
          {bytes(usage.memory_bytes)}
        </span>
      </div>
    </div>
  );
}

/** The upper end of a plot of memory: some room above the most of it, and never a few bytes made large. */
export function memoryTop(samples: Sample[]): number {
  return Math.max(32 * 2 ** 20, 1.5 * Math.max(0, ...samples.map((sample) => sample.memory)));
}
