"""Every bound and interval of mesosctl in one place: the unit is in the name, the reason beside it.

Rules: nothing here is computed from the environment; an option of the command line may override a
default, never a bound.
"""

from __future__ import annotations

# --- the wire -------------------------------------------------------------------------------------
# Control frames are small; a flood of junk then costs little to refuse (see docs/protocol.md).
FRAME_BYTES_MAX = 64 * 1024
# A frame between parties that know each other's key: submissions with scripts, batches of tasks.
FRAME_BYTES_MAX_BULK = 8 * 1024 * 1024
# msgpack containers: a frame of 0x90 bytes must not become a million empty lists.
ARRAY_ITEMS_MAX = 200_000
MAP_ITEMS_MAX = 20_000
TEXT_CHARS_MAX = 4 * 1024 * 1024
# What the commands of a message that share one may take together when they are written out again.
SHARED_BYTES_MAX = 4 * FRAME_BYTES_MAX_BULK
# After so many undecodable frames a peer is no longer listened to.
BAD_FRAMES_MAX = 20
# What one framework says of where it wants to be: one entry for each constraint of its jobs. With
# more of them it takes every agent, and declines.
WHERES_MAX = 64
# Agents that one entry excludes by id: those on which a job of --spread has a task.
WHERE_AGENTS_MAX = 1_000
# Outgoing messages that wait for one peer; beyond it the peer counts as lost (a slow framework must
# not make the master grow).
PEER_QUEUE_MAX = 10_000
# How many messages one pass of a loop takes before it writes and answers.
PASS_MESSAGES_MAX = 500

# --- liveness -------------------------------------------------------------------------------------
HEARTBEAT_S = 5.0
# Silence for so many heartbeats ends a session, on either side.
HEARTBEATS_MISSED_MAX = 3
AGENT_TIMEOUT_S = HEARTBEAT_S * HEARTBEATS_MISSED_MAX
# With more agents than that their heartbeats are rarer, or they would drown the master: every 5 s
# are 200 a second with 1,000 agents and 10,000 with 50,000.
HEARTBEAT_AGENTS = 1_000
# Half of LEASE_MIN_S: no lease runs out between two of them.
HEARTBEAT_MAX_S = 15.0
# A master that was started gives its agents so much longer than that: they have to notice that it
# was gone, and their hosts may be busy with whatever took the master along.
AGENTS_RETURN_S = 45.0
# So many agents may become unreachable at once, as many as a rack holds; then one at a time. What
# takes more of them along is a network, which comes back, and their work need not all be repeated.
UNREACHABLE_BURST = 20
UNREACHABLE_EVERY_S = 2.0
# First retry within this window, doubling up to the maximum; all jittered. Where nobody listens a
# retry costs next to nothing, and a master that was started again has to be found soon (3 s until
# it is offering again); so the maximum is short, and grows with the cluster (RECONNECT_EACH_S).
RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 0.5
# What one agent's handshake costs a master: so many times that is the window in which all return.
RECONNECT_EACH_S = 0.002
# How long ZooKeeper keeps the seat of a leader that it does not hear: the least that a server with
# its usual tick of 2 s grants, and two thirds of the time in which a cluster has another leader.
ZK_SESSION_S = 4.0
# A leader proves that often that it is one; a majority of the servers writes to disk each time.
ZK_PULSE_S = 1.0
# A watch that was lost is made up for by looking again: candidates are few, agents many.
ZK_LOOK_S = 2.0
ZK_WATCH_LOOK_S = 30.0
# Those who only watch have nothing to lose with their session.
ZK_WATCH_SESSION_S = 10.0
# A master that does not lead and knows of none that does is asked again within this time.
NO_LEADER_MAX_S = 1.0
# A command waits so long for its answer unless --request-timeout says otherwise.
REQUEST_TIMEOUT_S = 10.0

# --- offers ---------------------------------------------------------------------------------------
OFFER_TIMEOUT_S = 30.0
REFUSE_S = 5.0
REFUSE_MAX_S = 365 * 86_400.0
# A framework that lets offers time out is filtered for the offer timeout, doubling up to this.
SILENT_FILTER_MAX_S = 3600.0
ALLOCATION_INTERVAL_S = 1.0

# --- frameworks and tasks -------------------------------------------------------------------------
FAILOVER_TIMEOUT_S = 7 * 86_400.0
# Known only from agents after a restart of the master: so long it has to come back at the least.
RECOVERED_FRAMEWORK_S = 30.0
# An attempt lost with its agent or executor is repeated so often, then the task is lost.
LOST_ATTEMPTS_MAX = 5
# A lease (--lost-after): an agent is silent for 15 s before it counts as unreachable, and after a
# restart it may need as long again to find its executors; a shorter one would end healthy tasks.
LEASE_MIN_S = 30.0
LEASE_MAX_S = 365 * 86_400.0
# A framework waits longer than the lease before it starts another attempt: a fixed part, in which
# whoever enforces it is scheduled and the kernel ends the processes, and a share of the lease, for
# the two hosts' clocks may be slewed by 500 ppm each, in opposite directions; doubled.
LEASE_SLACK_S = 10.0
LEASE_SLACK_SHARE = 0.002
KILL_GRACE_S = 10.0
KILL_GRACE_MAX_S = 3600.0
# How long after KILL a container that is not empty is killed again.
KILL_AGAIN_S = 0.2
PIDS_MAX = 4096
MEM_BYTES_MIN = 4 * 1024 * 1024
CPUS_MILLI_MIN = 10
# Memory of a batch task that names none, and its CPUs (cli.md 3).
TASK_CPUS_MILLI = 1000
TASK_MEM_BYTES = 512 * 1024 * 1024
ARRAY_TASKS_MAX = 1_000_000
SCRIPT_BYTES_MAX = 4 * 1024 * 1024
ENV_BYTES_MAX = 1024 * 1024
ENV_VALUE_BYTES_MAX = 128 * 1024
ENV_ENTRIES_MAX = 10_000
NAME_BYTES_MAX = 128
# Why an operator or a user did something: one line that others read.
REASON_CHARS_MAX = 200
# The longest deadline of a drain. It is the one decision that reads the wall clock: the deadline
# has to survive the master, and a new process has no other clock in common with the old one.
DRAIN_MAX_S = 365 * 86_400.0
# Tasks that one ACCEPT carries, so that it stays one frame.
ACCEPT_TASKS_MAX = 1_000

# --- lanes ----------------------------------------------------------------------------------------
# What has not started when its lane is so old is given back: nobody notices less, and whoever is
# behind a long task has lost no more.
LANE_S = 1.0
# A framework fills lanes with so much work: large beside a round trip, so little beside LANE_S that
# tasks which take half as long again as the ones before do not come back.
LANE_WORK_S = 0.6
# The last tasks of a job are shared by its slots down to lanes of so much work: shorter ones would
# cost more than is won by all slots ending together.
LANE_SHARE_S = 0.1
LANE_TASKS_MAX = 100

# --- updates --------------------------------------------------------------------------------------
# An update that is not acknowledged is sent again after this, doubling up to the maximum.
UPDATE_RETRY_S = 2.0
UPDATE_RETRY_MAX_S = 60.0

# --- why tasks wait -------------------------------------------------------------------------------
# Changes of its reason that are kept of a task and of a job: as many as one reads.
HISTORY_MAX = 10
# Jobs of which they are kept: about 2 MB at the most.
HISTORY_JOBS_MAX = 1000
# How often the reasons of the first jobs in order are looked at while nobody asks, and of how many:
# it costs the master one look at all agents.
HISTORY_LOOK_S = 30.0
HISTORY_LOOK_JOBS = 100

# --- executors ------------------------------------------------------------------------------------
EXECUTOR_IDLE_S = 30.0
EXECUTOR_REGISTER_S = 60.0
# After a restart of the agent its executors have so long to come back before they count as dead.
EXECUTOR_RECONNECT_S = 15.0
# Messages out of place that a framework's executor may send before it is ended: a careless one
# makes a few, one that floods us should not fill the log.
GUEST_FAULTS_MAX = 20
# A container that holds more memory than it is to have is asked again so often, then ended: in half
# a minute a runtime that gives memory back at all has done it.
GUEST_RESIZE_AGAIN_S = 3.0
GUEST_RESIZE_TRIES = 10
# Ends that a framework's executor was told and has not acknowledged; it only loses by it.
GUEST_ENDS_MAX = 1000

# --- streams --------------------------------------------------------------------------------------
CHUNK_BYTES = 48 * 1024
# Bytes of a stream that may be under way without having been taken by the other side.
STREAM_WINDOW_BYTES = 1024 * 1024
# A key that is let into an agent for one task's sandbox may use it for so long.
ADMISSION_S = 60.0

# --- housekeeping ---------------------------------------------------------------------------------
# The sandbox of a task that has ended, and the details of a job (--log-keep).
LOG_KEEP_S = 7 * 86_400.0
# How often the disk is looked at (Mesos: disk_watch_interval).
DISK_LOOK_S = 60.0
# From here on sandboxes go sooner; at the second mark every one whose end is acknowledged.
DISK_PRESSURE_MILLI = 800
DISK_FULL_MILLI = 950
# Jobs of which only a summary is left, each about a kilobyte of memory; beyond it the oldest go.
SUMMARIES_KEPT = 50_000
# What one stream of a task in its sandbox may occupy: the agent's limit (--log-max), and the least
# that can be asked for. The beginning is kept: it often says what the rest is about.
LOG_MAX_BYTES = 64 * 1024 * 1024
LOG_MAX_BYTES_MIN = 64 * 1024
LOG_HEAD_BYTES = 64 * 1024
# Agents that a master's registry remembers before it forgets some (Mesos: 102,400).
REGISTRY_AGENTS_MAX = 50_000
# Roles of which a master keeps what operators set; what they may set (thousandths; a number).
ROLES_SET_MAX = 10_000
WEIGHT_MILLI_MAX = 1_000_000_000
PRIORITY_MAX = 1_000_000
# Resource names that one quota may bound.
QUOTA_NAMES_MAX = 100
# Space on an agent is gathered for a task for so long, looked for so often, on one of so many
# agents at once, of which so many are looked at (docs/decisions/stated-demand.md).
GATHER_S = 300.0
GATHER_LOOK_S = 0.25
# For so many frameworks at one look, and not soon again for one for which no agent was found.
GATHER_LOOKS = 8
GATHER_AGAIN_S = 2.0
GATHER_ONE_IN = 10
GATHER_SCAN = 1_000
# A task waits so long before others are revoked for it: what ends by itself serves most of them.
PREEMPT_AFTER_S = 1.0
# How often it is looked for something to revoke; less often once a look was in vain.
PREEMPT_LOOK_S = 0.25
PREEMPT_IDLE_LOOK_S = 1.0
# At one look so many frameworks are served, for each task so many agents looked at (30 us each),
# and on so many of these is searched for whom to revoke (0.5 ms each).
PREEMPT_LOOKS = 4
PREEMPT_SCAN = 1_000
PREEMPT_SEARCHES = 50
# For so many tasks of one kind is room made at one look.
PREEMPT_LOTS = 4
# Beyond their grace revoked tasks may take so long to end, then what was kept is for everybody.
PREEMPT_HOLD_S = 15.0
# Whoever declines what others were ended for, or has waited there in vain, waits so long.
PREEMPT_AGAIN_S = 30.0
# What a framework may state at once, and how many tasks of one kind it states at the most.
WAITING_MAX = 8
WAITING_COUNT_MAX = 16
# Pairs of roles between which resources of one agent were moved by reservations.
RESERVATIONS_MAX = 1_000
# Volumes that one agent keeps; those of one task, and where it finds them in its sandbox.
VOLUMES_MAX = 1_000
VOLUMES_OF_TASK_MAX = 16
VOLUME_PATH_CHARS_MAX = 255
# How long a master that was started anew waits for agents before it trusts its count of what roles
# with a limit hold (Mesos: allocator_recovery_timeout).
LIMITS_WAIT_S = 600.0
# How often an agent looks for containers that nobody owns any more.
ORPHANS_LOOK_S = 300.0
# The log that all executors of an agent share; one older file of this size is kept beside it.
LOG_FILE_BYTES_MAX = 8 * 1024 * 1024
