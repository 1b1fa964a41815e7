// A new workspace.

import { useEffect, useRef, useState } from "preact/hooks";
import { useDeed, useNotices, useSession } from "../hooks";
import { at } from "../router";
import type { Template, Workspace } from "../types";
import { Button, Dialog, Field, Loading } from "../ui";

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

export function Create({ onClose, onMade }: { onClose: () => void; onMade: () => void }) {
  const { api } = useSession();
  const { say, complain } = useNotices();
  const [templates, setTemplates] = useState<Template[]>();
  const [template, setTemplate] = useState("python");
  const [fault, setFault] = useState("");
  const name = useRef<HTMLInputElement>(null);
  const [busy, run] = useDeed();
  useEffect(() => {
    api
      .get<{ templates: Template[] }>("/api/v1/templates")
      .then((answer) => setTemplates(answer.templates.sort((a, b) => Number(b.available) - Number(a.available))))
      .catch(complain);
    name.current?.focus();
  }, [api]);

  const submit = (event: Event) => {
    event.preventDefault();
    const project_id = name.current?.value.trim() ?? "";
    const wrong = NAME.test(project_id) ? "" : "Letters, digits, hyphens and underscores; 64 at most.";
    setFault(wrong);
    if (wrong !== "") return name.current?.focus();
    return run(async () => {
      const made = await api.post<Workspace>("/api/v1/sdk/workspaces", { project_id, template });
      say(`${made.project_id} runs.`);
      onMade();
      onClose();
      location.hash = at(made.project_id);
    });
  };

  return (
    <Dialog title="New workspace" onClose={onClose} wide>
      <form onSubmit={submit} noValidate>
        <Field label="Name" hint="One that you have already is opened, whatever the template." error={fault}>
          {({ id, describedBy, invalid }) => (
            <input
              ref={name}
              id={id}
              name="project"
              autocomplete="off"
              spellcheck={false}
              aria-describedby={describedBy}
              aria-invalid={invalid}
              maxLength={64}
              required
            />
          )}
        </Field>
        <fieldset class="choices">
          <legend>Template</legend>
          {templates === undefined && <Loading what="templates" />}
          <div class="choice-grid">
            {templates?.map((one) => (
              <label key={one.name} class="choice" title={one.unavailable_reason ?? one.description}>
                <input
                  type="radio"
                  name="template"
                  value={one.name}
                  checked={one.name === template}
                  disabled={!one.available}
                  onChange={() => setTemplate(one.name)}
                />
                <span>
                  <b>{one.name}</b>
                  <small>{one.available ? one.languages.join(", ") || one.description : "not on this machine"}</small>
                </span>
              </label>
            ))}
          </div>
        </fieldset>
        <footer>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" submit busy={busy}>
            Create
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
