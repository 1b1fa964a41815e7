"""Account, and the managers of what is the customer's own AI's: reads are empty, the rest is 501."""
import asyncio
import json
import sys

from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksAPIError, FleeksResourceNotFoundError


async def refused(awaitable, status=501):
    try:
        await awaitable
    except FleeksAPIError as error:
        assert error.status_code == status, error
        assert str(error), "a refusal without a text"
        return
    except FleeksResourceNotFoundError:
        assert status == 404
        return
    raise AssertionError("not refused")


async def main(project):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "default")
        number = (await ws.get_info()).db_project_id
        assert (await client.health_check()), "health"
        usage, key = await client.get_usage_stats(), await client.get_api_key_info()
        assert usage["requests"]["total"] >= 2 and key["is_active"] is True, (usage, key)

        agents = await ws.agents.list()
        assert (agents.total_count, agents.agents) == (0, []), agents
        await refused(ws.agents.execute("do it"))
        schedules = await client.schedules.list()
        assert (schedules.total, schedules.schedules) == (0, []), schedules
        quota = await client.schedules.quota()
        assert quota.schedules.max_allowed == 0 and quota.agent_hours.limit == 0, quota
        await refused(client.schedules.create(name="x", schedule_type="manual", agent_type="assistant", project_id=number))
        assert (await client.channels.list("sch_none")).channels == []
        assert await client.channels.types() == []
        assert (await client.automations.list("sch_none")).automations == []
        assert await client.deploy.list(number) == []
        assert (await client.deploy.list_secrets(project))["count"] == 0
        await refused(client.deploy.create(number, environment="production"))
        assert await client.ai_keys.list() == []
        await refused(client.ai_keys.set("openai", "sk-test"))
        assert (await client.voice.health())["enabled"] is False
        assert (await client.voice.get_config())["voices"] == []
        assert await client.voice.get_sessions() == []
        assert (await client.voice.get_stats())["active_sessions"] == 0
        assert await client.embeds.list() == []
        await ws.delete()
        print(json.dumps({"ok": True}))


asyncio.run(main(sys.argv[1]))
