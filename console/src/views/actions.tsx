// What is done with a workspace as a whole: sleep, wake, restart, delete.

import { useState } from "preact/hooks";
import { path } from "../api";
import { useDeed, useNotices, useSession } from "../hooks";
import type { Workspace } from "../types";
import { Button, Confirm } from "../ui";

interface Props {
  workspace: Workspace;
  onChange: () => void;
  onDeleted?: () => void;
  compact?: boolean;
}

export function Actions({ workspace, onChange, onDeleted, compact = false }: Props) {
  const { api } = useSession();
  const { say } = useNotices();
  const [doing, run] = useDeed();
  const [asking, setAsking] = useState<"restart" | "delete">();
  const name = workspace.project_id;
  const container = `/api/v1/sdk/containers${path(workspace.container_id)}`;
  const state = workspace.lifecycle_state;
  const down = state === "hibernated" || state === "stopped" || state === "failed";

  const deed = (done: string, work: () => Promise<unknown>) =>
    run(async () => {
      await work();
      say(done);
    }).finally(onChange);
  const wake = () => deed(`${name} runs.`, () => api.post(`${container}/wake`));
  const sleep = () => deed(`${name} sleeps.`, () => api.post(`${container}/hibernate`));
  const restart = () =>
    deed(`${name} was restarted.`, () => api.post(`${container}/restart`)).then(() => setAsking(undefined));
  const remove = () =>
    run(async () => {
      await api.delete(`/api/v1/sdk/workspaces${path(name)}`);
      say(`${name} was deleted.`);
      setAsking(undefined);
      onDeleted?.();
    }).finally(onChange);

  return (
    <div class="actions" role="group" aria-label={`What to do with ${name}`}>
      {down ? (
        <Button icon="sun" busy={doing} onClick={wake} label={`Wake ${name}`}>
          {state === "hibernated" ? "Wake" : "Start"}
        </Button>
      ) : (
        <Button icon="moon" busy={doing} onClick={sleep} label={`Put ${name} to sleep`}>
          Sleep
        </Button>
      )}
      <Button
        kind={compact ? "quiet" : "plain"}
        icon="restart"
        label={`Restart ${name}`}
        onClick={() => setAsking("restart")}
        {...(compact ? {} : { children: "Restart" })}
      />
      <Button
        kind={compact ? "quiet" : "plain"}
        icon="trash"
        label={`Delete ${name}`}
        onClick={() => setAsking("delete")}
        {...(compact ? {} : { children: "Delete" })}
      />
      {asking === "restart" && (
        <Confirm
          title={`Restart ${name}?`}
          deed="Restart"
          busy={doing}
          onDo={restart}
          onClose={() => setAsking(undefined)}
        >
          <p>All of its processes end, and memory that a sleep has kept is given up. Its files stay.</p>
        </Confirm>
      )}
      {asking === "delete" && (
        <Confirm
          title={`Delete ${name}?`}
          deed="Delete"
          danger
          busy={doing}
          onDo={remove}
          onClose={() => setAsking(undefined)}
        >
          <p>
            The workspace <b>{name}</b> goes with all its files, its addresses and its share links. There is no way
            back.
          </p>
        </Confirm>
      )}
    </div>
  );
}
