// The last wakes of this node: who was woken, for whom, how long it took, and what did not go well.

import { ago, millis, moment } from "../format";
import { useNow, usePoll, useSession, useTitle } from "../hooks";
import { at } from "../router";
import type { Wake } from "../types";
import { Empty, Loading, Trouble } from "../ui";

const EVERY_MILLIS = 3000;

const CAUSES: Record<string, string> = {
  visit: "a visit",
  api: "an API call",
  file_write: "a file write",
  create: "its creation",
  explicit: "by hand",
};

const OUTCOMES: Record<string, { word: string; tone: string }> = {
  memory: { word: "from memory", tone: "good" },
  thaw: { word: "thawed", tone: "cool" },
  start: { word: "started", tone: "good" },
  volume: { word: "from its files", tone: "moving" },
  failed: { word: "failed", tone: "bad" },
};

export function Wakes() {
  useTitle("Recent wakes");
  const { api } = useSession();
  const now = useNow(5000);
  const { data, error } = usePoll(
    (signal) => api.get<{ wakes: Wake[] }>("/api/v1/wakes?limit=100", signal),
    EVERY_MILLIS,
    [api],
  );
  return (
    <div class="page">
      <div class="page-head">
        <h1>Recent wakes</h1>
        <p class="soft">Of all owners, since this node started; the last 100.</p>
      </div>
      <Trouble error={error} />
      {data === undefined && error === undefined && <Loading what="wakes" />}
      {data?.wakes.length === 0 && (
        <Empty title="Nobody was woken yet">
          <p>Whenever a workspace is needed while it does not run, it is noted here.</p>
        </Empty>
      )}
      {data !== undefined && data.wakes.length > 0 && (
        <div class="table-wrap" tabIndex={0} role="region" aria-label="Recent wakes">
          <table>
            <thead>
              <tr>
                <th scope="col">When</th>
                <th scope="col">Workspace</th>
                <th scope="col">Woken by</th>
                <th scope="col">How</th>
                <th scope="col" class="number">
                  Took
                </th>
              </tr>
            </thead>
            <tbody>
              {data.wakes.map((wake) => (
                <tr key={`${wake.ended_at} ${wake.owner_id} ${wake.project_id}`}>
                  <td>
                    <time dateTime={wake.ended_at} title={moment(wake.ended_at)}>
                      {ago(wake.ended_at, now)}
                    </time>
                  </td>
                  <th scope="row">
                    <a href={at(wake.project_id)}>{wake.project_id}</a>
                  </th>
                  <td>{CAUSES[wake.cause] ?? wake.cause}</td>
                  <td>
                    <span class={`pill ${OUTCOMES[wake.outcome]?.tone ?? "off"}`}>
                      <span class="dot" aria-hidden="true" />
                      {OUTCOMES[wake.outcome]?.word ?? wake.outcome}
                    </span>
                    {wake.problem && <p class="small wrong">{wake.problem}</p>}
                  </td>
                  <td class="number">{millis(wake.duration_ms)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}
