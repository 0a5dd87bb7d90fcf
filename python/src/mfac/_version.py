__version__ = "0.1.0"

PROTOCOL = 1  # of the messages to the agent, docs/agent.md
