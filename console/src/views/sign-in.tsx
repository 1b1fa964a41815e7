// The key is asked for here. It goes into the page's memory, and into a header of each call.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, keyFault } from "../api";
import { sentence } from "../format";
import { textOf } from "../hooks";
import { Mark } from "../icons";
import { Button, Field } from "../ui";

interface Props {
  /** Resolves when the key is good. */
  onKey: (key: string) => Promise<void>;
  /** Why one is here again. */
  farewell: string;
}

export function SignIn({ onKey, farewell }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const [fault, setFault] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Sign in · fleeks";
    input.current?.focus();
  }, []);

  const submit = async (event: Event) => {
    event.preventDefault();
    const key = input.current?.value.trim() ?? "";
    const wrong = keyFault(key);
    setFault(wrong);
    if (wrong !== "") return input.current?.focus();
    setBusy(true);
    try {
      await onKey(key);
    } catch (error) {
      const refused = error instanceof ApiError && error.status === 401;
      setFault(refused ? `That key does not open this platform: ${error.message}.` : `${sentence(textOf(error))}.`);
      setBusy(false);
      input.current?.select();
    }
  };

  return (
    <main class="sign-in" id="main">
      <form class="card" onSubmit={submit} noValidate>
        <div class="sign-in-head">
          <Mark />
          <h1>fleeks console</h1>
          <p class="soft">Workspaces, keys and pools of this platform.</p>
        </div>
        {farewell !== "" && (
          <p class="banner" role="status">
            {farewell}
          </p>
        )}
        <Field label="API key" error={fault}>
          {({ id, describedBy, invalid }) => (
            <input
              ref={input}
              id={id}
              type="password"
              name="api-key"
              autocomplete="off"
              spellcheck={false}
              placeholder="fleeks_sk_…"
              aria-describedby={describedBy}
              aria-invalid={invalid}
              required
            />
          )}
        </Field>
        <div aria-live="assertive" class="unseen">
          {fault}
        </div>
        <Button kind="primary" submit busy={busy}>
          Sign in
        </Button>
        <p class="soft small">
          The key stays in this page's memory: no cookie, no storage. Reloading or closing the page forgets it. The
          first key is in the file <code>api-key</code> of the data directory.
        </p>
      </form>
    </main>
  );
}
