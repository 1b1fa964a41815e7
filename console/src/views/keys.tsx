// Keys: who may use the API, and for what.

import { useState } from "preact/hooks";
import { path } from "../api";
import { ago, moment } from "../format";
import { useDeed, useNotices, useNow, usePoll, useSession, useTitle } from "../hooks";
import type { Key } from "../types";
import { Button, Check, Confirm, Copyable, Dialog, Empty, Field, Loading, Trouble } from "../ui";

const EVERY_MILLIS = 15_000;

const SCOPES: [name: string, meaning: string][] = [
  ["read", "look at workspaces, files, jobs, previews"],
  ["write", "make, change and delete; sleep, wake, share"],
  ["exec", "run commands and apps, open shells"],
  ["keys", "list, make and revoke keys"],
];

export function Keys() {
  useTitle("Keys");
  const { api, info } = useSession();
  const [making, setMaking] = useState(false);
  const [ended, setEnded] = useState(false);
  const now = useNow(10_000);
  const { data, error, refresh } = usePoll(
    (signal) => api.get<{ keys: Key[] }>("/api/v1/keys", signal),
    EVERY_MILLIS,
    [api],
  );
  const isOver = (key: Key) => key.revoked || (key.expires_at !== undefined && Date.parse(key.expires_at) <= now);
  const shown = data?.keys.filter((key) => ended || !isOver(key)) ?? [];
  const over = data?.keys.filter(isOver).length ?? 0;

  return (
    <div class="page">
      <div class="page-head">
        <h1>Keys</h1>
        <span data-shortcut="n" onClick={() => setMaking(true)} hidden />
        <Button kind="primary" icon="plus" onClick={() => setMaking(true)}>
          New key
        </Button>
      </div>
      <Trouble error={error} />
      {data === undefined && error === undefined && <Loading what="keys" />}
      {data && shown.length === 0 && <Empty title="No keys" />}
      {shown.length > 0 && (
        <div class="table-wrap" tabIndex={0} role="region" aria-label="Keys">
          <table>
            <thead>
              <tr>
                <th scope="col">Key</th>
                <th scope="col">Owner</th>
                <th scope="col">May</th>
                <th scope="col">Made</th>
                <th scope="col">Ends</th>
                <th scope="col">
                  <span class="unseen">What to do</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.map((key) => (
                <KeyRow
                  key={key.key_id}
                  of={key}
                  own={key.key_id === info.key_id}
                  over={isOver(key)}
                  now={now}
                  onChange={refresh}
                />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {over > 0 && <Check label={`Show ${over} revoked or expired`} checked={ended} onChange={setEnded} />}
      {making && <NewKey onClose={() => setMaking(false)} onMade={refresh} />}
    </div>
  );
}

interface RowProps {
  of: Key;
  own: boolean;
  over: boolean;
  now: number;
  onChange: () => void;
}

function KeyRow({ of: key, own, over, now, onChange }: RowProps) {
  const { api } = useSession();
  const { say } = useNotices();
  const [asking, setAsking] = useState(false);
  const [busy, run] = useDeed();
  const name = key.name || key.key_id;
  const revoke = () =>
    run(async () => {
      await api.delete(`/api/v1/keys${path(key.key_id)}`);
      say(`${name} was revoked.`);
      setAsking(false);
    }).finally(onChange);
  return (
    <tr class={over ? "over" : ""}>
      <th scope="row">
        <span class="strong">{key.name ?? "unnamed"}</span> {own && <span class="tag good">in use here</span>}
        <div class="soft small mono">{key.key_id}</div>
      </th>
      <td>{key.owner_name}</td>
      <td>
        {key.scopes ? key.scopes.map((scope) => <span class="tag">{scope}</span>) : <span class="soft">as its owner</span>}
      </td>
      <td>
        <time dateTime={key.created_at} title={moment(key.created_at)}>
          {ago(key.created_at, now)}
        </time>
      </td>
      <td>{key.revoked ? "revoked" : key.expires_at ? moment(key.expires_at) : <span class="soft">never</span>}</td>
      <td class="end">
        {!over && (
          <Button kind="quiet" label={`Revoke ${name}`} onClick={() => setAsking(true)}>
            Revoke
          </Button>
        )}
        {asking && (
          <Confirm title={`Revoke ${name}?`} deed="Revoke" danger busy={busy} onDo={revoke} onClose={() => setAsking(false)}>
            <p>Whoever uses it is refused from now on. {own && "It is the key that you are signed in with."}</p>
          </Confirm>
        )}
      </td>
    </tr>
  );
}

const LIFETIMES: [label: string, seconds: number | undefined][] = [
  ["never", undefined],
  ["in an hour", 3600],
  ["in a day", 86_400],
  ["in 30 days", 30 * 86_400],
  ["in a year", 365 * 86_400],
];

function NewKey({ onClose, onMade }: { onClose: () => void; onMade: () => void }) {
  const { api, info } = useSession();
  const [busy, run] = useDeed();
  const [made, setMade] = useState<string>();
  const [name, setName] = useState("");
  const [owner, setOwner] = useState("");
  const [scopes, setScopes] = useState(info.scopes);
  const [lifetime, setLifetime] = useState(0);
  const submit = (event: Event) => {
    event.preventDefault();
    return run(async () => {
      const answer = await api.post<{ key: string }>("/api/v1/keys", {
        name: name.trim() || undefined,
        owner_name: owner.trim() || undefined,
        scopes,
        expires_in_seconds: LIFETIMES[lifetime]?.[1],
      });
      setMade(answer.key);
      onMade();
    });
  };
  if (made !== undefined) {
    return (
      <Dialog title="The new key" onClose={onClose} wide>
        <p>This is the only time that it is shown. Only its hash is kept here.</p>
        <Copyable text={made} label="the key" />
        <footer>
          <Button kind="primary" onClick={onClose} autofocus>
            I have it
          </Button>
        </footer>
      </Dialog>
    );
  }
  return (
    <Dialog title="New key" onClose={onClose}>
      <form onSubmit={submit}>
        <Field label="Name" hint="For people; it may be empty.">
          {({ id, describedBy }) => (
            <input
              id={id}
              value={name}
              maxLength={100}
              autocomplete="off"
              aria-describedby={describedBy}
              onInput={(event) => setName(event.currentTarget.value)}
            />
          )}
        </Field>
        {info.admin && (
          <Field label="Owner" hint={`Empty: ${info.owner_name}. A new name makes a new owner, with workspaces of their own.`}>
            {({ id, describedBy }) => (
              <input
                id={id}
                value={owner}
                autocomplete="off"
                spellcheck={false}
                aria-describedby={describedBy}
                onInput={(event) => setOwner(event.currentTarget.value)}
              />
            )}
          </Field>
        )}
        <fieldset>
          <legend>It may</legend>
          {SCOPES.filter(([scope]) => info.scopes.includes(scope)).map(([scope, meaning]) => (
            <Check
              key={scope}
              label={scope}
              hint={meaning}
              checked={scopes.includes(scope)}
              onChange={(on) => setScopes(on ? [...scopes, scope] : scopes.filter((one) => one !== scope))}
            />
          ))}
        </fieldset>
        <Field label="It ends">
          {({ id }) => (
            <select id={id} value={lifetime} onChange={(event) => setLifetime(Number(event.currentTarget.value))}>
              {LIFETIMES.map(([label], index) => (
                <option key={label} value={index}>
                  {label}
                </option>
              ))}
            </select>
          )}
        </Field>
        <footer>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy} disabled={scopes.length === 0}>
            Make the key
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
