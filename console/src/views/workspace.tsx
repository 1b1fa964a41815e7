// One workspace: its head, and the tabs under it.

import { ApiError, path } from "../api";
import { usePoll, useSession, useTitle } from "../hooks";
import { type Route, TABS, type Tab, at } from "../router";
import type { Workspace } from "../types";
import { Empty, External, Loading, StatePill, Trouble } from "../ui";
import { Actions } from "./actions";
import { Files } from "./files";
import { Jobs } from "./jobs";
import { Overview } from "./overview";
import { Ports } from "./ports";
import { Terminal } from "./terminal";
import { reason } from "./workspaces";

const EVERY_MILLIS = 2000;

const NAMES: Record<Tab, string> = {
  overview: "Overview",
  terminal: "Terminal",
  files: "Files",
  ports: "Ports",
  jobs: "Jobs",
};

export function WorkspaceView({ route }: { route: Route & { view: "workspace" } }) {
  const { project, tab } = route;
  useTitle(tab === "overview" ? project : `${NAMES[tab]} · ${project}`);
  const { api, history } = useSession();
  const { data, error, refresh } = usePoll(
    async (signal) => {
      const workspace = await api.get<Workspace>(`/api/v1/overview${path(project)}`, signal);
      history.note(workspace);
      return workspace;
    },
    EVERY_MILLIS,
    [api, project],
  );
  if (data === undefined) {
    return (
      <div class="page">
        <h1 class="unseen">{project}</h1>
        {error instanceof ApiError && error.status === 404 ? (
          <Empty title={`There is no workspace ${project}.`}>
            <a href="#/">All workspaces</a>
          </Empty>
        ) : error ? (
          <Trouble error={error} />
        ) : (
          <Loading what={project} />
        )}
      </div>
    );
  }
  return (
    <div class="page">
      <p class="crumbs">
        <a href="#/">Workspaces</a>
      </p>
      <div class="page-head">
        <h1>{project}</h1>
        <StatePill state={data.lifecycle_state} />
        <span class="soft small">{data.problem ?? reason(data)}</span>
        <span class="grow" />
        <External href={previewOf(data)}>Preview</External>
        <Actions
          workspace={data}
          onChange={refresh}
          onDeleted={() => {
            location.hash = "#/";
          }}
        />
      </div>
      <Trouble error={error} />
      <nav class="tabs" aria-label={`Parts of ${project}`}>
        {TABS.map((one, index) => (
          <a
            key={one}
            href={at(project, one)}
            aria-current={one === tab ? "page" : undefined}
            data-shortcut={String(index + 1)}
          >
            {NAMES[one]}
          </a>
        ))}
      </nav>
      <TabView route={route} workspace={data} refresh={refresh} />
    </div>
  );
}

interface TabProps {
  route: Route & { view: "workspace" };
  workspace: Workspace;
  refresh: () => void;
}

function TabView({ route, workspace, refresh }: TabProps) {
  switch (route.tab) {
    case "overview":
      return <Overview workspace={workspace} />;
    case "terminal":
      return <Terminal workspace={workspace} />;
    case "files":
      return <Files workspace={workspace} path={route.path} />;
    case "ports":
      return <Ports workspace={workspace} />;
    case "jobs":
      return <Jobs workspace={workspace} refresh={refresh} />;
  }
}

/** The address that this browser opens without a warning. */
export function previewOf(workspace: Workspace): string {
  const plain = location.protocol === "http:" ? workspace.preview_url_http : undefined;
  return plain ?? workspace.preview_url;
}
