// Shell lines that run in the background, and what they say.

import { useEffect, useRef, useState } from "preact/hooks";
import { path, withQuery } from "../api";
import { ago, moment, span } from "../format";
import { useDeed, useNotices, useNow, usePoll, useSession } from "../hooks";
import { Tail } from "../tail";
import type { Job, OutputSince, Workspace } from "../types";
import { Button, Empty, Field, Loading, Trouble } from "../ui";

const EVERY_MILLIS = 3000;
const OUTPUT_MILLIS = 1000;

const TONES: Record<Job["status"], string> = {
  running: "good",
  completed: "off",
  failed: "bad",
  timeout: "bad",
};

export function Jobs({ workspace, refresh }: { workspace: Workspace; refresh: () => void }) {
  const { api } = useSession();
  const [busy, run] = useDeed();
  const [command, setCommand] = useState("");
  const [chosen, setChosen] = useState<string>();
  const now = useNow(1000);
  const { project_id: project, lifecycle_state: state } = workspace;
  // Asking for jobs wakes who sleeps, and thaws who stands still: that is for the user to decide.
  const awake = state === "running";
  const jobs = usePoll(
    async (signal) => {
      if (!awake) return undefined;
      const url = withQuery("/api/v1/sdk/terminal/jobs", { project_id: project });
      return (await api.get<{ jobs: Job[] }>(url, signal)).jobs.reverse();
    },
    EVERY_MILLIS,
    [api, project, awake],
  );
  const submit = (event: Event) => {
    event.preventDefault();
    if (command.trim() === "") return;
    return run(async () => {
      const started = await api.post<Job>("/api/v1/sdk/terminal/background", { project_id: project, command });
      setCommand("");
      setChosen(started.job_id);
      jobs.refresh();
      refresh();
    });
  };
  const shown = jobs.data?.find((job) => job.job_id === chosen);
  return (
    <div>
      <form class="run" onSubmit={submit}>
        <Field label="Run in the background">
          {({ id }) => (
            <input
              id={id}
              class="mono"
              value={command}
              placeholder="python -m http.server 8000"
              autocomplete="off"
              spellcheck={false}
              onInput={(event) => setCommand(event.currentTarget.value)}
            />
          )}
        </Field>
        <Button kind="primary" icon="play" submit busy={busy}>
          Run
        </Button>
      </form>
      <Trouble error={jobs.error} />
      {!awake && <Empty title="It does not run now. Running something wakes it, and its jobs with it." />}
      {awake && jobs.data === undefined && jobs.error === undefined && <Loading what="jobs" />}
      {awake && jobs.data?.length === 0 && <Empty title="No jobs since its container started" />}
      <div class="split">
        <ul class="picks" aria-label="Jobs">
          {jobs.data?.map((job) => (
            <li key={job.job_id}>
              <button
                type="button"
                class="pick"
                aria-pressed={job.job_id === chosen}
                onClick={() => setChosen(job.job_id)}
              >
                <code>{job.command}</code>
                <span class="small soft">
                  <span class={`pill ${TONES[job.status]}`}>
                    <span class="dot" aria-hidden="true" />
                    {job.status}
                    {job.exit_code !== undefined && job.status !== "running" && ` (${job.exit_code})`}
                  </span>
                  <time dateTime={job.started_at} title={moment(job.started_at)}>
                    {job.status === "running"
                      ? `for ${span((now - Date.parse(job.started_at)) / 1000)}`
                      : ago(job.started_at, now)}
                  </time>
                </span>
              </button>
            </li>
          ))}
        </ul>
        {shown && <Output key={shown.job_id} job={shown} project={project} onChange={jobs.refresh} />}
      </div>
    </div>
  );
}

interface OutputProps {
  job: Job;
  project: string;
  onChange: () => void;
}

/** What a job has said, followed while it says more. */
function Output({ job, project, onChange }: OutputProps) {
  const { api } = useSession();
  const { say } = useNotices();
  const [busy, run] = useDeed();
  const tail = useRef(new Tail());
  const box = useRef<HTMLPreElement>(null);
  const url = `/api/v1/sdk/terminal/jobs${path(job.job_id)}`;
  const { data, error } = usePoll(
    async (signal) => {
      const { stdout, stderr } = tail.current.next;
      const query = { project_id: project, stdout_from: stdout, stderr_from: stderr };
      if (!tail.current.isOver) {
        const part = await api.get<OutputSince>(withQuery(`${url}/output`, query), signal);
        tail.current.add(part);
      }
      return tail.current.text;
    },
    OUTPUT_MILLIS,
    [api, url],
  );
  useEffect(() => {
    const element = box.current;
    if (element && element.scrollHeight - element.scrollTop - element.clientHeight < 120) {
      element.scrollTop = element.scrollHeight;
    }
  }, [data]);
  const stop = () =>
    run(async () => {
      const answer = await api.delete<{ message: string }>(withQuery(url, { project_id: project }));
      say(answer.message);
    }).finally(onChange);
  return (
    <section class="output" aria-label={`Output of ${job.command}`}>
      <header>
        <code>{job.command}</code>
        {job.status === "running" && (
          <Button icon="stop" busy={busy} onClick={stop}>
            Stop
          </Button>
        )}
      </header>
      <Trouble error={error} />
      <pre ref={box} tabIndex={0} aria-label="Output">
        {data === undefined ? "" : data === "" ? <span class="soft">It has said nothing yet.</span> : data}
      </pre>
    </section>
  );
}
