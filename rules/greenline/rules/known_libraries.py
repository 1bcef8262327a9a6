"""Libraries by purpose: one line for each purpose, then the import names of libraries that serve it."""

from __future__ import annotations

_TABLE = """
agents agents agno autogen autogen_agentchat beeai_framework camel claude_agent_sdk crewai dspy google.adk haystack \
langchain langgraph letta llama_index mirascope pydantic_ai semantic_kernel smolagents strands swarm
cache cachetools cashews aiocache diskcache dogpile.cache
cli click cleo cyclopts docopt fire plumbum typer
config decouple dynaconf environs hydra omegaconf
dataframes dask.dataframe modin.pandas pandas polars vaex
dates arrow delorean maya moment pendulum
http aiohttp grequests httplib2 httpx niquests pycurl requests treq urllib3
json orjson rapidjson simplejson ujson
logging eliot logbook loguru structlog
orm django.db.models orator peewee pony sqlalchemy.orm sqlmodel tortoise
queue arq celery dramatiq huey procrastinate rq saq taskiq
retries backoff retry retrying stamina tenacity
scheduling aiocron apscheduler schedule
templates chameleon genshi jinja2 mako
validation cerberus marshmallow pydantic schematics voluptuous
web bottle django falcon fastapi flask litestar quart sanic starlette tornado
"""

LIBRARIES: dict[str, tuple[str, ...]] = {
    line.split()[0]: tuple(line.split()[1:]) for line in _TABLE.strip().splitlines()
}

WATCHED = ("agents", "http", "queue")
"""Purposes for which a second library is told even where no rule names one."""
