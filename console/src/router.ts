// Where the page is, as the part of its address after the hash: it can be linked to, and the server
// need not know it.

export const TABS = ["overview", "terminal", "files", "ports", "jobs"] as const;
export type Tab = (typeof TABS)[number];

export type Route =
  | { view: "workspaces" }
  | { view: "workspace"; project: string; tab: Tab; path: string }
  | { view: "keys" }
  | { view: "pools" }
  | { view: "wakes" }
  | { view: "lost" };

export function parse(hash: string): Route {
  const [place = "", search = ""] = hash.replace(/^#/, "").split("?", 2);
  let parts: string[];
  try {
    parts = place.split("/").filter((part) => part !== "").map(decodeURIComponent);
  } catch {
    return { view: "lost" };
  }
  const [first, project, tab = "overview"] = parts;
  if (first === undefined) return { view: "workspaces" };
  if ((first === "keys" || first === "pools" || first === "wakes") && parts.length === 1) {
    return { view: first };
  }
  const known = TABS.find((known) => known === tab);
  if (first === "w" && project !== undefined && known !== undefined && parts.length <= 3) {
    const path = new URLSearchParams(search).get("path") ?? "";
    return { view: "workspace", project, tab: known, path };
  }
  return { view: "lost" };
}

export function format(route: Route): string {
  switch (route.view) {
    case "workspaces":
    case "lost":
      return "#/";
    case "workspace": {
      const tab = route.tab === "overview" ? "" : `/${route.tab}`;
      const path = route.path === "" ? "" : `?path=${encodeURIComponent(route.path)}`;
      return `#/w/${encodeURIComponent(route.project)}${tab}${path}`;
    }
    default:
      return `#/${route.view}`;
  }
}

/** The address of a workspace's tab. */
export function at(project: string, tab: Tab = "overview", path = ""): string {
  return format({ view: "workspace", project, tab, path });
}
