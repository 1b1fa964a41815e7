// What views share: the session, notices, polling that is polite.

import { createContext } from "preact";
import { useCallback, useContext, useEffect, useRef, useState } from "preact/hooks";
import { type Api, ApiError } from "./api";
import type { History } from "./history";
import type { KeyInfo } from "./types";

export interface Session {
  api: Api;
  info: KeyInfo;
  history: History;
}

export interface Notices {
  say(text: string): void;
  complain(error: unknown): void;
}

/** Who shows complaints while a dialog is open, the topmost last: what lies behind one cannot be read. */
export const dialogs: ((error: string) => void)[] = [];

export const SessionContext = createContext<Session | null>(null);
export const NoticeContext = createContext<Notices | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("nobody is signed in");
  return session;
}

export function useNotices(): Notices {
  const notices = useContext(NoticeContext);
  if (notices === null) throw new Error("nobody hears notices");
  return notices;
}

export function textOf(error: unknown): string {
  if (error instanceof ApiError) {
    return error.requestId ? `${error.message} (request ${error.requestId})` : error.message;
  }
  return error instanceof Error ? error.message : String(error);
}

/** A poll that fails is tried again ever more seldom, up to this many times its interval. */
const SLOWEST = 8;

export interface Polled<T> {
  data: T | undefined;
  /** Of the last look, if it failed. */
  error: ApiError | undefined;
  /** Looks now. */
  refresh: () => void;
}

/**
 * Looks now, and again `every` milliseconds after each answer while the page is visible. What was
 * known stays until something newer is: what has the focus must not go away under it.
 */
export function usePoll<T>(
  load: (signal: AbortSignal) => Promise<T>,
  every: number,
  deps: unknown[],
): Polled<T> {
  const [data, setData] = useState<T>();
  const [error, setError] = useState<ApiError>();
  const look = useRef(() => {});
  useEffect(() => {
    let timer: number | undefined;
    let running: AbortController | undefined;
    let failures = 0;
    const stop = () => {
      window.clearTimeout(timer);
      running?.abort();
    };
    const run = async () => {
      stop();
      const control = new AbortController();
      running = control;
      try {
        const loaded = await load(control.signal);
        if (control.signal.aborted) return;
        failures = 0;
        setData(loaded);
        setError(undefined);
      } catch (caught) {
        if (control.signal.aborted) return;
        failures += 1;
        setError(caught instanceof ApiError ? caught : new ApiError(0, textOf(caught)));
      }
      const patience = every * Math.min(SLOWEST, 2 ** failures);
      if (document.visibilityState === "visible") timer = window.setTimeout(run, patience);
    };
    const seen = () => {
      if (document.visibilityState === "visible") void run();
      else window.clearTimeout(timer);
    };
    look.current = () => void run();
    void run();
    document.addEventListener("visibilitychange", seen);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      stop();
    };
  }, deps);
  const refresh = useCallback(() => look.current(), []);
  return { data, error, refresh };
}

/** The time, every so many milliseconds. */
export function useNow(every = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), every);
    return () => window.clearInterval(timer);
  }, [every]);
  return now;
}

/** A value that has been the same for a while. */
export function useSettled<T>(value: T, millis: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(value), millis);
    return () => window.clearTimeout(timer);
  }, [value, millis]);
  return settled;
}

/** A deed that goes on once at a time; what it could not do is complained about. */
export function useDeed(): [busy: boolean, run: (deed: () => Promise<void>) => Promise<boolean>] {
  const notices = useNotices();
  const [busy, setBusy] = useState(false);
  const run = async (deed: () => Promise<void>) => {
    setBusy(true);
    try {
      await deed();
      return true;
    } catch (error) {
      notices.complain(error);
      return false;
    } finally {
      setBusy(false);
    }
  };
  return [busy, run];
}

/** The title of the window, and of the page for a screen reader. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · fleeks`;
  }, [title]);
}
