"""Every method of every class of the SDK that speaks with a server, found by looking into the package: one
that is not walked here fails the walk. What is served works; what is not is refused with a reason."""
import asyncio
import importlib
import inspect
import json
import os
import pkgutil
import sys
import tempfile

import fleeks_sdk
from fleeks_sdk import create_client
from fleeks_sdk.embeds import Embed, EmbedInfo
from fleeks_sdk.exceptions import FleeksAPIError, FleeksException, FleeksResourceNotFoundError
from fleeks_sdk.lifecycle import LifecycleConfig

# Reached by Socket.IO only, which the unmodified client cannot open: `connect` below shows that.
SOCKETS = {f"StreamingClient.{name}" for name in ("watch_files", "stream_agent", "stream_terminal")} | {
    f"VoiceSession.{name}" for name in ("send_audio", "send_audio_bytes", "send_text", "mute", "stop", "events")}
# Never reach a server: they need a library that the package does not ask for.
LOCAL = {"DeployManager.distribute_mobile", "DeployManager.distribute_desktop"}
walked = set()


def methods():
    """`Class.method` of all that is public and asynchronous."""
    found = set()
    for module in pkgutil.iter_modules(fleeks_sdk.__path__):
        module = importlib.import_module(f"fleeks_sdk.{module.name}")
        for name, kind in vars(module).items():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            for method, body in vars(kind).items():
                body = inspect.unwrap(body) if callable(body) else body
                if not method.startswith("_") and (inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body)):
                    found.add(f"{name}.{method}")
    return found


async def call(target, method, *arguments, **named):
    """Calls it, and remembers that. Of a stream all of it."""
    walked.add(f"{type(target).__name__}.{method}")
    body = getattr(target, method)
    if inspect.isasyncgenfunction(body):
        return [event async for event in body(*arguments, **named)]
    return await body(*arguments, **named)


async def refused(target, method, *arguments, statuses=(501,), **named):
    """Refused with one of the statuses, and with a reason in words."""
    try:
        answer = await call(target, method, *arguments, **named)
    except FleeksResourceNotFoundError as error:
        assert 404 in statuses, f"{method}: {error!r}"
    except FleeksAPIError as error:
        # None: the SDK's own words for a 404, 405 or 501 of what it knows to be new.
        assert error.status_code in (*statuses, None), f"{method}: {error.status_code} {error}"
        assert len(str(error)) > 10, f"{method}: no reason: {error}"
    except FleeksException as error:
        # Its own words for a server that has not what it asks for.
        assert len(str(error)) > 10, error
    except Exception as error:
        # A stream is not read through the SDK's own map of errors.
        status = getattr(getattr(error, "response", None), "status_code", None)
        assert status in statuses, f"{method}: {error!r}"
    else:
        raise AssertionError(f"{type(target).__name__}.{method} answered {answer!r}")


async def served(client, project):
    manager = client.workspaces
    ws = await call(manager, "create", project, template="python")
    assert (await call(manager, "get", project)).container_id == ws.container_id
    assert project in [one.project_id for one in await call(manager, "list", page_size=100)]
    info = await call(ws, "get_info")
    assert (await call(ws, "get_health")).project_id == project
    assert (await call(ws, "get_preview_url")).preview_url == ws.preview_url

    files = ws.files
    await call(files, "create", "a/b.txt", "text")
    assert await call(files, "read", "a/b.txt") == "text"
    await call(files, "update", "a/b.txt", "new ✓")
    assert await call(files, "read_binary", "a/b.txt") == "new ✓".encode()
    assert (await call(files, "get_info", "a/b.txt")).size_bytes == len("new ✓".encode())
    assert (await call(files, "mkdir", "c/d")).type == "directory"
    with tempfile.NamedTemporaryFile(suffix=".bin") as local:
        local.write(os.urandom(100_000))
        local.flush()
        assert (await call(files, "upload", "up.bin", local.name)).size_bytes == 100_000
    listed = await call(files, "list", "/", recursive=True)
    assert {"a/b.txt", "c/d", "up.bin"} <= {one.path for one in listed.files}, listed
    await call(files, "delete", "c")
    try:
        await files.read("c/d")
        raise AssertionError("read what was deleted")
    except FleeksResourceNotFoundError:
        pass

    terminal = ws.terminal
    assert (await call(terminal, "execute", "echo out")).stdout == "out\n"
    job = await call(terminal, "start_background_job", "echo begun; sleep 300")
    assert (await call(terminal, "get_job", job.job_id)).status == "running"
    assert job.job_id in [one.job_id for one in (await call(terminal, "list_jobs")).jobs]
    assert "stderr" in await call(terminal, "get_job_output", job.job_id)
    assert (await call(terminal, "stop_job", job.job_id))["message"]
    assert (await call(terminal, "wait_for_job", job.job_id, poll_interval=0.1)).status != "running"

    containers = ws.containers
    assert (await call(containers, "get_info")).container_id == ws.container_id
    assert (await call(containers, "get_stats")).process_count >= 1
    assert (await call(containers, "exec", "cat a/b.txt")).stdout == "new ✓"
    assert (await call(containers, "get_processes")).process_count >= 1
    assert (await call(containers, "heartbeat")).container_id == ws.container_id
    assert (await call(containers, "extend_timeout", 5)).success
    assert (await call(containers, "set_keep_alive", True)).keep_alive_enabled
    settings = LifecycleConfig(idle_timeout_minutes=20)
    assert (await call(containers, "configure_lifecycle", settings)).idle_timeout_minutes == 20
    assert (await call(containers, "hibernate")).status == "hibernated"
    assert (await call(containers, "get_lifecycle_status")).state in ("hibernating", "stopped")
    assert (await call(containers, "wake")).status == "running"
    assert (await call(containers, "restart"))["status"]

    previews, number = client.previews, info.db_project_id
    assert (await call(previews, "detect", number)).suggested_port > 0
    session = await call(previews, "start", number, port=8123, command="python -m http.server 8123")
    assert (await call(previews, "get", session.session_id)).port == 8123
    for _ in range(200):
        if (await call(previews, "health", session.session_id)).healthy:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("the app never became healthy")
    assert (await call(previews, "refresh", session.session_id)).session_id == session.session_id
    assert (await call(previews, "list", number)).total == 1
    assert (await call(previews, "stop", session.session_id))["status"] == "stopped"
    await call(previews, "cleanup", number, force=True)
    return ws, number


async def account(client, project):
    assert await call(client, "health_check")
    assert await call(client, "get_usage_stats")
    assert (await call(client, "get_api_key_info"))["is_active"]
    assert (await call(client, "get", f"workspaces/{project}"))["project_id"] == project
    made = await call(client, "post", f"files/{project}", json={"path": "p", "content": "1", "encoding": "utf-8"})
    assert made["path"] == "p"
    await call(client, "put", f"files/{project}/content?path=p", json={"content": "22", "encoding": "utf-8"})
    raw, kind = await call(client, "get_raw", f"files/{project}/raw", params={"path": "p"})
    assert (raw, kind) == (b"22", "application/octet-stream"), (raw, kind)
    # Whole directories: an archive down, and up again elsewhere.
    archive, kind = await call(client, "get_raw", f"files/{project}/archive", params={"path": "a"})
    assert kind == "application/gzip", kind
    done = await call(client, "post_raw", f"files/{project}/archive", archive, "application/gzip", params={"path": "z"})
    assert done["files"] == 1, done
    await call(client, "delete", f"files/{project}/content?path=z")
    await refused(client, "patch", f"workspaces/{project}", json={}, statuses=(405,))


async def elsewhere(client, ws, number):
    """What belongs to the customer's own AI: reads find nothing, changes are refused."""
    agents = ws.agents
    assert (await call(agents, "list")).agents == []
    await refused(agents, "execute", "do it")
    await refused(agents, "handoff", "do it")
    await refused(agents, "run_subagent", "do it")
    await refused(agents, "stop", "agent_1")
    for method in ("get_status", "get_output", "wait_for_completion"):
        await refused(agents, method, "agent_1", statuses=(404,))

    schedules = client.schedules
    assert (await call(schedules, "list")).schedules == []
    assert (await call(schedules, "quota")).schedules.max_allowed == 0
    await refused(schedules, "create", name="x", agent_type="assistant", project_id=number)
    await refused(schedules, "update", "sch_1", name="y")
    for method in ("delete", "start", "stop", "pause", "resume"):
        await refused(schedules, method, "sch_1")
    for method in ("get", "status", "logs", "list_messages"):
        await refused(schedules, method, "sch_1", statuses=(404, 501))
    await refused(schedules, "set_dashboard", "sch_1", url="http://x", port=80)
    await refused(schedules, "send_message", "sch_1", message="x")

    channels = client.channels
    assert await call(channels, "types") == []
    assert (await call(channels, "list", "sch_1")).channels == []
    await refused(channels, "create", "sch_1", "slack")
    await refused(channels, "update", "ch_1", channel_name="x")
    for method in ("delete", "auth", "test"):
        await refused(channels, method, "ch_1")
    for method in ("get", "auth_status"):
        await refused(channels, method, "ch_1", statuses=(404,))

    automations = client.automations
    assert (await call(automations, "list", "sch_1")).automations == []
    await refused(automations, "create", "sch_1", "x", "webhook")
    await refused(automations, "update", "aut_1", name="x")
    for method in ("delete", "test"):
        await refused(automations, method, "aut_1")
    await refused(automations, "get", "aut_1", statuses=(404,))

    deploy = client.deploy
    assert await call(deploy, "list", number) == []
    assert (await call(deploy, "list_secrets", ws.project_id))["count"] == 0
    await refused(deploy, "create", number)
    await refused(deploy, "provision_db", number)
    await refused(deploy, "multi_deploy", number)
    await refused(deploy, "set_secrets", number, {"A": "b"})
    await refused(deploy, "delete_secrets", ws.project_id)
    for method in ("rollback", "delete", "diagnose"):
        await refused(deploy, method, 1)
    for method in ("status", "logs", "stream_logs", "health", "runtime_logs", "metrics"):
        await refused(deploy, method, 1, statuses=(404,))

    keys = client.ai_keys
    assert await call(keys, "list") == []
    await refused(keys, "set", "openai", "sk-test")
    await refused(keys, "delete", "openai")

    voice = client.voice
    assert (await call(voice, "health"))["enabled"] is False
    assert (await call(voice, "get_config"))["voices"] == []
    assert await call(voice, "get_sessions") == []
    assert (await call(voice, "get_stats"))["active_sessions"] == 0
    await refused(voice, "start", "agent_1", timeout=1.0, statuses=())
    await call(voice, "disconnect")

    environments = client.environments
    await refused(environments, "create", template="x")
    await refused(environments, "revoke_share", "shr_1")
    session = environments.get("env_1")
    await refused(session, "record", "note")
    await refused(session, "share")
    await refused(session, "upload_artifact", b"x", kind="log", content_type="text/plain")
    await refused(session, "evaluate", [])
    await refused(session, "get_artifact", "art_1", statuses=(404,))
    for method in ("timeline", "recordings", "replay", "export", "shares"):
        await refused(session, method, statuses=(404,))


async def embeds(client):
    """Not served yet: lists are empty, the rest says so."""
    manager = client.embeds
    assert await call(manager, "list") == []
    for method in ("create", "create_react", "create_python", "create_jupyter", "create_static"):
        named = {} if method in ("create", "create_jupyter") else {"files": {"a": "b"}}
        await refused(manager, method, "x", **named)
    await refused(manager, "get", "emb_1", statuses=(404, 501))
    await refused(manager, "delete", "emb_1", statuses=(404, 501))
    await refused(manager, "get_total_analytics", statuses=(404, 501))
    embed = Embed(client, EmbedInfo.from_dict({"id": "emb_1", "name": "x"}))
    for method in ("refresh", "get_sessions", "terminate_all_sessions", "get_analytics", "pause", "resume", "archive", "delete"):
        await refused(embed, method, statuses=(404, 501))
    await refused(embed, "update", name="y", statuses=(404, 501))
    await refused(embed, "update_file", "a", "b", statuses=(404, 501))
    await refused(embed, "terminate_session", "ses_1", statuses=(404, 501))
    await refused(embed, "duplicate", "y", statuses=(404, 501))


async def streaming(client):
    """The client's own fault, asserted so that its repair is noticed."""
    try:
        await call(client.streaming, "connect")
    except FleeksException as error:
        assert "namespace" in str(error), error
    else:
        raise AssertionError("the SDK can connect now: walk its streams here")
    await call(client.streaming, "disconnect")


async def main(project):
    async with create_client() as client:
        ws, number = await served(client, project)
        await account(client, project)
        await elsewhere(client, ws, number)
        await embeds(client)
        await streaming(client)
        await call(ws, "delete")
        await client.workspaces.create(project, "default")
        await call(client.workspaces, "delete", project)
        await call(client, "close")
    everything = methods()
    missing = everything - walked - SOCKETS - LOCAL
    assert not missing, f"not walked: {sorted(missing)}"
    gone = (walked | SOCKETS | LOCAL) - everything
    assert not gone, f"not in the package: {sorted(gone)}"
    print(json.dumps({"walked": len(walked), "all": len(everything)}))


asyncio.run(main(sys.argv[1]))
