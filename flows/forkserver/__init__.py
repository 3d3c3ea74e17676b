"""Start flow runs as forks of a process that has already imported Prefect and the heavy libraries.

    Prefect server --event--> worker --starts--> client --Unix socket--> fork server --forks--> keeper
        --forks--> the flow's process

- The **worker** (worker.py) is Prefect's process worker; it polls for runs as soon as the server sends an event.
- The **client** (client.py) is the deployment's `command`. It carries the run's environment, lives as long as the run,
  forwards every signal and ends with the exit status of the flow's process. To Prefect's worker, to `ps` and to a
  search for the run by its environment, it is the run's process.
- The **fork server** (server.py) imports libraries and none of the project's flows, so an edited flow is used at its
  next run. It keeps no state about the runs that it forked: they go on when it dies.
- The **keeper** (server.py as well), one for each run, is between the fork server and the flow's process. It kills the
  flow's process when the client is gone, and the kernel kills it when the keeper is gone: no run outlives its client.

No run is executed twice, because only the client decides, and at a single moment. Before it sends GO, it may fall back
to `python -m prefect.engine`, and the keeper runs nothing; after that it never falls back.
"""
