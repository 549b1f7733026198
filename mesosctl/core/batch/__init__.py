"""The batch framework's machine: a durable queue of jobs on top of the public driver.

machine    wires the parts: the driver to the master, the clients, the timers
queue      jobs and their tasks in memory; the one place where a task changes its state
records    what a job and a task are, and their form on disk
spans      array indices and positions, ranges of positions
intake     what a submission must be to be taken
launch     a task's command, paths and environment
placing    which tasks go into which offers; what the agents were seen to have
holdings   what live attempts hold on each agent
wishing    what the master is asked for
updates    what a status update does to a task
keys       who a client's key is
clients    requests of commands and their answers
selectors  what a command's selectors name
views      what listings show
outlook    why tasks wait, in one order of causes
fitting    what is asked of the master about those that wait
fitwords   what it answers, in sentences
explaining explanations: causes, advice, the place in the queue
endings    how tasks ended, in words
watching   who is told of changes, and when
"""
