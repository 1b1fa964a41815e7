// Pools: how many warm containers wait, and how well that serves who claims them.

import { bytes, millis, percent, plural, span } from "../format";
import { usePoll, useSession, useTitle } from "../hooks";
import type { Pool, Pools as Answer } from "../types";
import { Empty, Loading, Trouble } from "../ui";

const EVERY_MILLIS = 2000;

export function Pools() {
  useTitle("Pools");
  const { api } = useSession();
  const { data, error } = usePoll((signal) => api.get<Answer>("/api/v1/pools", signal), EVERY_MILLIS, [api]);
  const without = data?.pools.filter((pool) => !hasPool(pool)).map((pool) => pool.template) ?? [];
  return (
    <div class="page">
      <div class="page-head">
        <h1>Pools</h1>
        {data && (
          <p class="soft">
            Room for {plural(data.room.containers, "warm container")} in all, {bytes(data.room.memory_bytes_each)} each
          </p>
        )}
      </div>
      <Trouble error={error} />
      {data === undefined && error === undefined && <Loading what="pools" />}
      {data?.pools.length === 0 && <Empty title="No template has a pool" />}
      <div class="cards">
        {data?.pools.filter(hasPool).map((pool) => (
          <PoolCard key={pool.template} pool={pool} />
        ))}
      </div>
      {without.length > 0 && (
        <p class="soft aside">
          Without a pool, so that a new workspace is started from nothing: {without.join(", ")}. The option{" "}
          <code>--pool TEMPLATE=N</code> gives one.
        </p>
      )}
    </div>
  );
}

/** Whether it may ever have a warm container. */
function hasPool(pool: Pool): boolean {
  return pool.max > 0 || pool.ready > 0 || pool.refilling > 0;
}

function PoolCard({ pool }: { pool: Pool }) {
  const claims = pool.hits + pool.misses;
  return (
    <section class="card" aria-label={`Pool of ${pool.template}`}>
      <header class="card-head">
        <h2>{pool.template}</h2>
        {pool.breaker ? (
          <span class="pill bad">
            <span class="dot" aria-hidden="true" />
            Paused
          </span>
        ) : pool.refilling > 0 ? (
          <span class="pill moving">
            <span class="dot" aria-hidden="true" />
            Filling
          </span>
        ) : pool.ready >= pool.target ? (
          <span class="pill good">
            <span class="dot" aria-hidden="true" />
            Full
          </span>
        ) : (
          <span class="pill off">
            <span class="dot" aria-hidden="true" />
            Waiting
          </span>
        )}
      </header>
      <p class="figure">
        {pool.ready}
        <span class="soft"> of {pool.target} ready</span>
      </p>
      <meter
        class="meter"
        min={0}
        max={Math.max(1, pool.target)}
        value={Math.min(pool.ready, pool.target)}
        aria-label={`${pool.ready} of ${pool.target} ready`}
      />
      {pool.breaker && (
        <p class="banner bad">
          {plural(pool.breaker.failures, "refill")} failed: {pool.breaker.reason}. Tried again in{" "}
          {span(pool.breaker.retry_in_seconds)}.
        </p>
      )}
      {pool.short_of_room && <p class="banner">It would be larger if the machine had room.</p>}
      <dl class="facts">
        <Fact name="Hit rate" value={pool.hit_rate === null ? "–" : percent(pool.hit_rate * 100)} />
        <Fact name="Claims" value={String(claims)} />
        <Fact name="Claim, P95" value={pool.claim_p95_ms === null ? "–" : millis(pool.claim_p95_ms)} />
        <Fact name="Refill" value={millis(pool.refill_ms)} />
        <Fact name="On their way" value={String(pool.refilling)} />
        <Fact name="Bounds" value={`${pool.min} to ${pool.max}`} />
      </dl>
    </section>
  );
}

export function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
