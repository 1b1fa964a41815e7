"""Every lifecycle call that the SDK has: what it answers, and that it does what it says."""
import asyncio
import json
import sys
from datetime import datetime, timedelta, timezone

from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksAPIError
from fleeks_sdk.lifecycle import IdleAction, LifecycleConfig


def minutes_until(text):
    return (datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime.now(timezone.utc)) / timedelta(minutes=1)


def about(value, expected):
    return expected - 2 <= value <= expected + 0.1


async def settings(ws):
    life = ws.containers
    before = await life.get_lifecycle_status()
    assert (before.container_id, before.state) == (ws.container_id, "running"), before
    assert before.uptime_seconds >= 0 and before.last_activity_at and not before.keep_alive_enabled, before
    config = LifecycleConfig(
        idle_timeout_minutes=120, max_duration_hours=9, idle_action=IdleAction.SHUTDOWN, auto_wake=False,
        keep_alive_on_preview=True, heartbeat_interval_seconds=60,
    )
    configured = await life.configure_lifecycle(config)
    assert (configured.idle_timeout_minutes, configured.idle_action) == (120, "shutdown"), configured
    assert about(minutes_until(configured.timeout_at), 120), configured
    presets = [LifecycleConfig.quick_test(), LifecycleConfig.development(), LifecycleConfig.agent_task(),
               LifecycleConfig.always_on(), LifecycleConfig.agent_workspace(), LifecycleConfig()]
    for preset in presets:
        status = await life.configure_lifecycle(preset)
        assert status.idle_action == preset.idle_action.value, (preset, status)
        assert (status.timeout_at is None) == (preset.idle_action == IdleAction.KEEP_ALIVE), (preset, status)


async def timeouts(ws):
    life = ws.containers
    await life.configure_lifecycle(LifecycleConfig(idle_timeout_minutes=30, heartbeat_interval_seconds=60))
    beat = await life.heartbeat()
    assert (beat.status, beat.idle_timeout_seconds) == ("active", 1800), beat
    assert about(minutes_until(beat.last_heartbeat), 0) and about(minutes_until(beat.next_timeout_at), 30), beat
    extended = await life.extend_timeout(60)
    assert extended.success and extended.added_minutes == extended.minutes_extended == 60, extended
    assert about(minutes_until(extended.new_timeout_at), 90), extended
    most = await life.extend_timeout(100_000)
    assert 419 <= most.added_minutes <= 421 and most.max_allowed_minutes == 480, most
    status = await life.get_lifecycle_status()
    assert about(status.time_remaining_seconds / 60, 510), status
    assert (await life.set_keep_alive(True)).keep_alive_enabled
    status = await life.get_lifecycle_status()
    assert status.keep_alive_enabled and status.timeout_at is None and status.time_remaining_seconds is None, status
    assert not (await life.set_keep_alive(False)).keep_alive_enabled


async def sleeps(ws):
    life = ws.containers
    await ws.files.create("kept.txt", "kept")
    await life.configure_lifecycle(LifecycleConfig(idle_action=IdleAction.HIBERNATE, auto_wake=False))
    asleep = await life.hibernate()
    assert (asleep.status, asleep.action, asleep.container_id) == ("hibernated", "hibernate", ws.container_id), asleep
    assert (await life.get_lifecycle_status()).state == "hibernating"
    assert (await life.hibernate()).status == "hibernated", "a POST may come twice"
    assert await ws.files.read("kept.txt") == "kept", "reading wakes nobody"
    assert (await life.get_lifecycle_status()).state == "hibernating"
    try:
        await ws.terminal.execute("true")
        raise AssertionError("auto_wake is off")
    except FleeksAPIError as error:
        assert error.status_code == 409 and "auto_wake" in str(error), error
    awake = await life.wake()
    assert (awake.status, awake.action) == ("running", "wake"), awake
    assert (await life.wake()).status == "running", "a POST may come twice"
    assert (await ws.terminal.execute("cat kept.txt")).stdout == "kept"
    await life.configure_lifecycle(LifecycleConfig(idle_action=IdleAction.HIBERNATE))
    await life.hibernate()
    assert (await ws.terminal.execute("cat kept.txt")).stdout == "kept", "a call wakes it"
    assert (await life.get_lifecycle_status()).state == "running"


async def main(project):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        await settings(ws)
        await timeouts(ws)
        await sleeps(ws)
        await ws.delete()
    print(json.dumps({"ok": True}))


asyncio.run(main(sys.argv[1]))
