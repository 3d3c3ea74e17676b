"""Warm start: flow runs are forked from a process that has Prefect and the heavy libraries imported.

    server --tells--> worker --starts--> client --private socket--> fork server --forks--> keeper
        --forks--> the flow's process

- The **worker** (worker.py) is Prefect's own, which looks for runs as soon as the server tells of one.
- The **client** (client.py) is what the deployment's `command` runs. It carries the run's environment, lives as long
  as the run, passes every signal on and ends as the flow's process has ended: to Prefect's worker, to `ps` and to
  whoever looks for the run by its environment, it is the run's process.
- The **fork server** (fork_server.py) has libraries imported and never a line of the project's flows, so that a flow
  that was edited is used at its next run. It keeps nothing about the runs that it has forked: they go on when it dies.
- The **keeper** (keeper.py) stands between the two, one a run. It ends the flow's process when the client is gone,
  and the kernel ends it when the keeper is gone: no run is ever left without its client.

A run is never run twice, because one process alone decides, at one moment: the client. Until it has said GO it may
turn to the ordinary way, `python -m prefect.engine`, and nothing is run for it; from then on it never does.
"""
