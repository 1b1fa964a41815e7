// The frame around the views: who is signed in, where the page is, notices, shortcuts.
//
// Must never happen here: the key kept anywhere but in this page's memory.

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Api } from "./api";
import { History } from "./history";
import { NoticeContext, type Notices, type Session, SessionContext, dialogs, textOf } from "./hooks";
import { Mark } from "./icons";
import { type Route, format, parse } from "./router";
import { Shortcuts, useShortcuts } from "./shortcuts";
import type { KeyInfo } from "./types";
import { Button } from "./ui";
import { mayLose } from "./unsaved";
import { Keys } from "./views/keys";
import { Pools } from "./views/pools";
import { SignIn } from "./views/sign-in";
import { Wakes } from "./views/wakes";
import { WorkspaceView } from "./views/workspace";
import { Workspaces } from "./views/workspaces";

interface Notice {
  id: number;
  text: string;
  bad: boolean;
}

/** How long a notice stays; a complaint stays until it is closed. */
const NOTICE_MILLIS = 4000;

export function App() {
  const [notices, setNotices] = useState<Notice[]>([]);
  const [session, setSession] = useState<Session>();
  const [farewell, setFarewell] = useState("");
  const last = useRef(0);

  const close = useCallback((id: number) => {
    setNotices((all) => all.filter((notice) => notice.id !== id));
  }, []);
  const told = useMemo<Notices>(() => {
    const add = (text: string, bad: boolean) => {
      last.current += 1;
      const id = last.current;
      setNotices((all) => [...all.filter((notice) => notice.text !== text).slice(-3), { id, text, bad }]);
      if (!bad) window.setTimeout(() => close(id), NOTICE_MILLIS);
    };
    const complain = (error: unknown) => {
      const inDialog = dialogs.at(-1);
      if (inDialog) inDialog(textOf(error));
      else add(textOf(error), true);
    };
    return { say: (text) => add(text, false), complain };
  }, [close]);

  const leave = useCallback((why: string) => {
    setSession(undefined);
    setNotices([]);
    setFarewell(why);
  }, []);
  const enter = useCallback(
    async (key: string) => {
      const info = await new Api(key).get<KeyInfo>("/api/v1/sdk/auth/key-info");
      const api = new Api(key, () => leave("This key is not good any more. Sign in with another one."));
      setFarewell("");
      setSession({ api, info, history: new History() });
    },
    [leave],
  );

  return (
    <NoticeContext.Provider value={told}>
      {session ? (
        <SessionContext.Provider value={session}>
          <Frame onLeave={() => mayLose() && leave("")} info={session.info} />
        </SessionContext.Provider>
      ) : (
        <SignIn onKey={enter} farewell={farewell} />
      )}
      <div class="notices" aria-live="polite">
        {notices.map((notice) => (
          <div key={notice.id} class={notice.bad ? "notice bad" : "notice"} role={notice.bad ? "alert" : "status"}>
            <span>{notice.text}</span>
            <Button kind="quiet" icon="close" label="Close this notice" onClick={() => close(notice.id)} />
          </div>
        ))}
      </div>
    </NoticeContext.Provider>
  );
}

function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  const here = useRef(hash);
  useEffect(() => {
    const moved = () => {
      if (location.hash === here.current) return;
      // Every way to another place comes by here, the browser's buttons too.
      if (!mayLose()) return history.replaceState(null, "", here.current || "#/");
      here.current = location.hash;
      setHash(location.hash);
    };
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);
  return useMemo(() => parse(hash), [hash]);
}

function Frame({ onLeave, info }: { onLeave: () => void; info: KeyInfo }) {
  const route = useRoute();
  const main = useRef<HTMLElement>(null);
  const [helping, setHelping] = useState(false);
  const shortcuts = useShortcuts(() => setHelping(true));
  const place = route.view === "workspace" ? `workspace ${route.project}` : route.view;
  const first = useRef(true);
  useEffect(() => {
    // Who goes elsewhere by keyboard or screen reader begins at the top of it.
    if (!first.current) window.scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
    first.current = false;
  }, [place]);

  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        Skip to content
      </button>
      <header class="bar">
        <a class="brand" href="#/" aria-label="fleeks, all workspaces">
          <Mark />
          fleeks
        </a>
        <nav aria-label="Console">
          <NavLink to={{ view: "workspaces" }} here={route.view === "workspaces" || route.view === "workspace"}>
            Workspaces
          </NavLink>
          <NavLink to={{ view: "keys" }} here={route.view === "keys"}>
            Keys
          </NavLink>
          {info.admin && (
            <>
              <NavLink to={{ view: "pools" }} here={route.view === "pools"}>
                Pools
              </NavLink>
              <NavLink to={{ view: "wakes" }} here={route.view === "wakes"}>
                Wakes
              </NavLink>
            </>
          )}
        </nav>
        <div class="bar-end">
          <span class="owner" title="The owner of the key in use">
            {info.owner_name}
          </span>
          <Button kind="quiet" icon="help" label="Keyboard shortcuts" onClick={() => setHelping(true)} />
          <Button kind="quiet" icon="leave" onClick={onLeave} label="Sign out">
            Sign out
          </Button>
        </div>
      </header>
      <main ref={main} tabIndex={-1} id="main">
        <View route={route} />
      </main>
      {helping && (
        <Shortcuts
          on={shortcuts.on}
          onSwitch={shortcuts.setOn}
          admin={info.admin}
          onClose={() => setHelping(false)}
        />
      )}
    </>
  );
}

function View({ route }: { route: Route }) {
  switch (route.view) {
    case "workspaces":
      return <Workspaces />;
    case "workspace":
      return <WorkspaceView key={route.project} route={route} />;
    case "keys":
      return <Keys />;
    case "pools":
      return <Pools />;
    case "wakes":
      return <Wakes />;
    case "lost":
      return (
        <div class="page">
          <h1>Nothing is here</h1>
          <p>
            <a href="#/">All workspaces</a>
          </p>
        </div>
      );
  }
}

function NavLink({ to, here, children }: { to: Route; here: boolean; children: ComponentChildren }) {
  return (
    <a href={format(to)} aria-current={here ? "page" : undefined}>
      {children}
    </a>
  );
}
