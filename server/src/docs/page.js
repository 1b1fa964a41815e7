// Shows openapi.json. Text goes in as text, never as markup.
'use strict';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function named(schema) {
  const reference = schema && schema.$ref;
  return reference ? reference.split('/').pop() : null;
}

// A schema as an outline in the manner of JSON; `seen` keeps circles from going round.
function outline(schema, api, indent, seen) {
  if (!schema) return 'anything';
  const name = named(schema);
  if (name) {
    if (seen.includes(name)) return name;
    return outline(api.components.schemas[name], api, indent, [...seen, name]);
  }
  if (schema.allOf) {
    const properties = {}, required = [];
    for (const part of schema.allOf) {
      const whole = named(part) ? api.components.schemas[named(part)] : part;
      Object.assign(properties, whole.properties);
      required.push(...(whole.required || []));
    }
    return outline({ type: 'object', properties, required }, api, indent, seen);
  }
  const one = schema.oneOf || schema.anyOf;
  if (one) return one.map((part) => outline(part, api, indent, seen)).join(' | ');
  const types = [].concat(schema.type || []).filter((type) => type !== 'null');
  if (types.includes('array')) return `[${outline(schema.items, api, indent, seen)}, …]`;
  if (schema.properties) {
    const deeper = `${indent}  `;
    const lines = Object.entries(schema.properties).map(([key, value]) => {
      const optional = (schema.required || []).includes(key) ? '' : '?';
      const note = value.description ? `  // ${value.description.split('\n')[0]}` : '';
      return `${deeper}${key}${optional}: ${outline(value, api, deeper, seen)}${note}`;
    });
    return `{\n${lines.join('\n')}\n${indent}}`;
  }
  if (schema.additionalProperties) {
    return `{name: ${outline(schema.additionalProperties, api, indent, seen)}, …}`;
  }
  return schema.format ? `${types.join('|')} (${schema.format})` : types.join('|') || 'anything';
}

function parameters(call) {
  const rows = (call.parameters || []).map((parameter) => element('tr', '',
    element('td', '', element('code', parameter.name)),
    element('td', `${parameter.in}${parameter.required ? ', required' : ''}`),
    element('td', parameter.description || '')));
  return rows.length ? element('table', '', element('tbody', '', ...rows)) : '';
}

function content(part) {
  return part && part.content && Object.values(part.content)[0];
}

function shown(path, method, call, api) {
  const body = element('div');
  body.className = 'body';
  if (call.description) body.append(element('p', call.description));
  body.append(parameters(call));
  const request = content(call.requestBody);
  if (request) {
    body.append(element('p', 'Body'), element('pre', outline(request.schema, api, '', [])));
  }
  for (const [status, response] of Object.entries(call.responses || {})) {
    if (status === 'default') continue;
    const answer = content(response);
    body.append(element('p', `Answer ${status}`));
    if (answer) body.append(element('pre', outline(answer.schema, api, '', [])));
  }
  const summary = element('summary', '',
    element('b', method.toUpperCase()), element('code', path), element('span', call.summary || ''));
  const details = element('details', '', summary, body);
  details.dataset.text = `${method} ${path} ${call.summary || ''}`.toLowerCase();
  return details;
}

function show(api) {
  document.getElementById('about').replaceChildren(
    `Version ${api.info.version}. ${api.info.description || ''} `,
    Object.assign(element('a', 'openapi.json'), { href: '/openapi.json' }));
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const call = item[method];
      const group = (call.tags || ['other'])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(shown(path, method, call, api));
    }
  }
  const calls = document.getElementById('calls');
  for (const [group, members] of groups) {
    calls.append(element('section', '', element('h2', group), ...members));
  }
  const find = document.getElementById('find');
  find.addEventListener('input', () => {
    const wanted = find.value.trim().toLowerCase();
    for (const section of calls.children) {
      let any = false;
      for (const one of section.querySelectorAll('details')) {
        one.hidden = !one.dataset.text.includes(wanted);
        any = any || !one.hidden;
      }
      section.hidden = !any;
    }
  });
}

fetch('/openapi.json')
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => {
    document.getElementById('about').textContent = `openapi.json cannot be shown: ${error}`;
  });
