// What the API says, as far as the console reads it. The words are the API's.

export type State =
  | "stopped"
  | "starting"
  | "running"
  | "freezing"
  | "frozen"
  | "hibernating"
  | "hibernated"
  | "waking"
  | "failed"
  | "deleted";

export type IdleAction = "shutdown" | "hibernate" | "keep_alive";

export interface Usage {
  cpu_seconds: number;
  memory_bytes: number;
  memory_limit_bytes: number;
  tasks: number;
  network_received_bytes: number;
  network_sent_bytes: number;
  disk_read_bytes: number;
  disk_written_bytes: number;
  sampled_at: string;
}

export interface Workspace {
  project_id: string;
  container_id: string;
  template: string;
  created_at: string;
  languages: string[];
  language_versions: Record<string, string>;
  resource_limits: Record<string, string>;
  preview_url: string;
  preview_url_http?: string;
  lifecycle_state: State;
  last_activity_at: string;
  generation: number;
  uptime_seconds: number;
  kept_awake_by: string[];
  time_remaining_seconds?: number;
  idle_action: IdleAction;
  auto_wake: boolean;
  woken?: "memory" | "volume";
  problem?: string;
  usage?: Usage;
}

export interface Overview {
  workspaces: Workspace[];
  total: number;
  page: number;
  page_size: number;
  states: Partial<Record<State, number>>;
}

export interface Lifecycle {
  idle_timeout_minutes: number;
  max_duration_hours: number | null;
  idle_action: IdleAction;
  auto_wake: boolean;
  keep_alive_on_preview: boolean;
  keep_alive_enabled: boolean;
  snapshot?: { generation: number; size_bytes: number; created_at: string };
}

export interface KeyInfo {
  key_id: string;
  name?: string;
  owner_name: string;
  admin: boolean;
  scopes: string[];
  expires_at?: string;
}

export interface Template {
  name: string;
  description: string;
  languages: string[];
  available: boolean;
  unavailable_reason?: string;
}

export interface FileInfo {
  path: string;
  name: string;
  type: "file" | "directory" | "symlink" | "other";
  size_bytes: number;
  permissions: string;
  modified_at: string;
  mime_type?: string;
}

export interface ShareLink {
  link_id: string;
  port?: number;
  label?: string;
  created_at: string;
  expires_at: string;
}

export interface NewShareLink extends ShareLink {
  url: string;
  url_http?: string;
}

export interface Access {
  visibility: "public" | "private";
  share_links: ShareLink[];
}

export interface Job {
  job_id: string;
  command: string;
  status: "running" | "completed" | "failed" | "timeout";
  exit_code?: number;
  started_at: string;
  completed_at?: string;
  execution_time_ms?: number;
}

export interface OutputPart {
  base64: string;
  next: number;
  skipped: number;
}

export interface OutputSince {
  status: Job["status"];
  exit_code: number | null;
  since: { stdout: OutputPart; stderr: OutputPart };
}

export interface Key {
  key_id: string;
  name?: string;
  owner_name: string;
  created_at: string;
  expires_at?: string;
  revoked: boolean;
  scopes?: string[];
}

export interface Pool {
  template: string;
  min: number;
  max: number;
  target: number;
  ready: number;
  refilling: number;
  short_of_room: boolean;
  hits: number;
  misses: number;
  hit_rate: number | null;
  claim_p95_ms: number | null;
  refill_ms: number;
  breaker: { failures: number; retry_in_seconds: number; reason: string } | null;
}

export interface Pools {
  pools: Pool[];
  room: { containers: number; memory_bytes_each: number };
}

export interface Wake {
  ended_at: string;
  project_id: string;
  owner_id: string;
  cause: string;
  outcome: string;
  duration_ms: number;
  problem?: string;
}

export interface TerminalInfo {
  terminal_id: string;
  status: "running" | "exited";
}
