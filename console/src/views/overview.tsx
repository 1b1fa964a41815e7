// What a workspace uses, what it is, and when it sleeps.

import { useEffect, useRef, useState } from "preact/hooks";
import { path } from "../api";
import { bytes, moment, percent, plural, span } from "../format";
import { useDeed, useNotices, useSession } from "../hooks";
import type { IdleAction, Lifecycle, Workspace } from "../types";
import { Button, Check, Field, Loading, Spark } from "../ui";
import { Fact } from "./pools";
import { because, memoryTop } from "./workspaces";

export function Overview({ workspace }: { workspace: Workspace }) {
  return (
    <div class="overview">
      <Use workspace={workspace} />
      <Awake workspace={workspace} />
      <Settings workspace={workspace} />
      <About workspace={workspace} />
    </div>
  );
}

function Use({ workspace }: { workspace: Workspace }) {
  const { history } = useSession();
  const { usage } = workspace;
  const samples = history.of(workspace.container_id);
  const cpu = samples.at(-1)?.cpu ?? 0;
  return (
    <section class="card span" aria-labelledby="use">
      <h2 id="use">In use</h2>
      {usage === undefined ? (
        <p class="soft">It has no container now, and takes neither memory nor CPU time.</p>
      ) : (
        <>
          <div class="big-plots">
            <div>
              <p class="figure">
                {percent(cpu)} <span class="soft">of one CPU</span>
              </p>
              <Spark
                values={samples.map((sample) => sample.cpu)}
                top={20}
                tone="cpu"
                label={`CPU over the last two minutes, now ${percent(cpu)}`}
              />
            </div>
            <div>
              <p class="figure">
                {bytes(usage.memory_bytes)} <span class="soft">of {bytes(usage.memory_limit_bytes)}</span>
              </p>
              <Spark
                values={samples.map((sample) => sample.memory)}
                top={memoryTop(samples)}
                tone="memory"
                label={`Memory over the last two minutes, now ${bytes(usage.memory_bytes)}`}
              />
            </div>
          </div>
          <dl class="facts wide">
            <Fact name="Runs for" value={span(workspace.uptime_seconds)} />
            <Fact name="CPU time" value={span(usage.cpu_seconds)} />
            <Fact name="Tasks" value={String(usage.tasks)} />
            <Fact name="Received" value={bytes(usage.network_received_bytes)} />
            <Fact name="Sent" value={bytes(usage.network_sent_bytes)} />
            <Fact name="Read" value={bytes(usage.disk_read_bytes)} />
            <Fact name="Written" value={bytes(usage.disk_written_bytes)} />
          </dl>
        </>
      )}
    </section>
  );
}

function Awake({ workspace }: { workspace: Workspace }) {
  const { api } = useSession();
  const { say } = useNotices();
  const [busy, run] = useDeed();
  const { kept_awake_by: kept, time_remaining_seconds: left, lifecycle_state: state } = workspace;
  const runs = workspace.usage !== undefined;
  const extend = () =>
    run(async () => {
      const container = `/api/v1/sdk/containers${path(workspace.container_id)}`;
      await api.post(`${container}/extend-timeout`, { additional_minutes: 30 });
      say("It sleeps half an hour later.");
    });
  return (
    <section class="card" aria-labelledby="awake">
      <h2 id="awake">{runs ? "What keeps it awake" : "How it comes back"}</h2>
      {runs && kept.length > 0 && (
        <ul class="reasons">
          {kept.map((text) => (
            <li key={text}>{because(text)}</li>
          ))}
        </ul>
      )}
      {runs && kept.length === 0 && <p class="soft">Nothing.</p>}
      {runs && left !== undefined && (
        <p>
          It {workspace.idle_action === "shutdown" ? "stops" : "sleeps"} in <b>{span(left)}</b> if nobody uses it.
        </p>
      )}
      {runs && left !== undefined && (
        <Button busy={busy} onClick={extend}>
          30 minutes more
        </Button>
      )}
      {!runs && (
        <p class="soft">
          {state === "hibernated"
            ? "Its memory, processes and files are on disk. "
            : "Its files are kept; it has no processes. "}
          {workspace.auto_wake ? "A visit or a call brings it back." : "Only you bring it back: automatic waking is off."}
        </p>
      )}
      {workspace.woken && (
        <p class="soft">
          {workspace.woken === "memory"
            ? "It was woken last with its memory as it had been."
            : "Its snapshot could not be used at its last wake: it started anew from its files."}
        </p>
      )}
    </section>
  );
}

const ACTIONS: [action: IdleAction, text: string][] = [
  ["hibernate", "sleep on disk"],
  ["shutdown", "stop"],
  ["keep_alive", "stay awake"],
];

function Settings({ workspace }: { workspace: Workspace }) {
  const { api } = useSession();
  const { say, complain } = useNotices();
  const [busy, run] = useDeed();
  const [set, setSet] = useState<Lifecycle>();
  const container = `/api/v1/sdk/containers${path(workspace.container_id)}`;
  const state = workspace.lifecycle_state;
  /** Changed by hand and not saved: then a change of state loads nothing over it. */
  const isChanged = useRef(false);
  useEffect(() => {
    if (isChanged.current) return;
    const keep = (loaded: Lifecycle) => {
      if (!isChanged.current) setSet(loaded);
    };
    api.get<Lifecycle>(`${container}/lifecycle`).then(keep).catch(complain);
  }, [api, container, state]);
  const save = (event: Event) => {
    event.preventDefault();
    if (set === undefined) return;
    // Before it is saved: what is typed meanwhile is a change again.
    isChanged.current = false;
    return run(async () => {
      const { idle_timeout_minutes, max_duration_hours, idle_action, auto_wake, keep_alive_on_preview } = set;
      const settings = { idle_timeout_minutes, max_duration_hours, idle_action, auto_wake, keep_alive_on_preview };
      await api.put(`${container}/lifecycle`, settings);
      await api.post(`${container}/keep-alive`, { enabled: set.keep_alive_enabled });
      say("Saved.");
    }).then((isSaved) => {
      if (!isSaved) isChanged.current = true;
    });
  };
  const change = (part: Partial<Lifecycle>) => {
    if (set === undefined) return;
    isChanged.current = true;
    setSet({ ...set, ...part });
  };
  return (
    <section class="card" aria-labelledby="settings">
      <h2 id="settings">When nobody uses it</h2>
      {set === undefined ? (
        <Loading what="settings" />
      ) : (
        <form onSubmit={save}>
          <div class="pair">
            <Field label="After (minutes)">
              {({ id }) => (
                <input
                  id={id}
                  type="number"
                  min={1}
                  max={10_080}
                  required
                  value={set.idle_timeout_minutes}
                  onInput={(event) => change({ idle_timeout_minutes: event.currentTarget.valueAsNumber })}
                />
              )}
            </Field>
            <Field label="it should">
              {({ id }) => (
                <select
                  id={id}
                  value={set.idle_action}
                  onChange={(event) => change({ idle_action: event.currentTarget.value as IdleAction })}
                >
                  {ACTIONS.map(([action, text]) => (
                    <option key={action} value={action}>
                      {text}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          </div>
          <Field label="And in any case after (hours)" hint="Empty: never.">
            {({ id, describedBy }) => (
              <input
                id={id}
                type="number"
                min={1}
                max={8760}
                aria-describedby={describedBy}
                value={set.max_duration_hours ?? ""}
                onInput={(event) => {
                  const hours = event.currentTarget.valueAsNumber;
                  change({ max_duration_hours: Number.isNaN(hours) ? null : hours });
                }}
              />
            )}
          </Field>
          <Check
            label="Visits and calls wake it"
            checked={set.auto_wake}
            onChange={(auto_wake) => change({ auto_wake })}
          />
          <Check
            label="Open websockets and event streams keep it awake"
            checked={set.keep_alive_on_preview}
            onChange={(keep_alive_on_preview) => change({ keep_alive_on_preview })}
          />
          <Check
            label="It never sleeps by itself"
            checked={set.keep_alive_enabled}
            onChange={(keep_alive_enabled) => change({ keep_alive_enabled })}
          />
          <Button submit busy={busy}>
            Save
          </Button>
          {set.snapshot && (
            <p class="soft small">
              Its snapshot takes {bytes(set.snapshot.size_bytes)} on disk, since {moment(set.snapshot.created_at)}.
            </p>
          )}
        </form>
      )}
    </section>
  );
}

function About({ workspace }: { workspace: Workspace }) {
  const versions = Object.entries(workspace.language_versions);
  const limits = workspace.resource_limits;
  const languages = versions.length > 0 ? versions.map(([name, version]) => `${name} ${version}`) : workspace.languages;
  return (
    <section class="card span" aria-labelledby="about">
      <h2 id="about">About it</h2>
      <dl class="facts wide">
        <Fact name="Template" value={workspace.template} />
        <Fact name="Languages" value={languages.join(", ") || "–"} />
        <Fact name="Made" value={moment(workspace.created_at)} />
        <Fact name="Limits" value={`${plural(Number(limits["cpu"] ?? 0), "CPU")}, ${limits["memory"] ?? "–"}`} />
        <Fact name="Generation" value={String(workspace.generation)} />
        <Fact name="Container" value={workspace.container_id} />
      </dl>
    </section>
  );
}
