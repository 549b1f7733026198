"""What the master says of a fit, in sentences; and the word that stands for it.

Rules: the order of the causes is that in which they would have to go: what makes it impossible
first, then what an operator decided, then who is served before, then what is in use. The first
one is the reason in listings.
"""

from __future__ import annotations

from mesosctl.model.explanations import Cause
from mesosctl.model.fit import AgentGroup, Fit, Lack, QuotaRoom, Rival
from mesosctl.model.volumes import VOLUMES
from mesosctl.model.words import amount_words, duration_words

# Which option of a submission asks for what.
_OPTIONS = {"cpus": "-c", "mem": "-m", "disk": "--disk", "gpus": "--gpus"}
_LACKING = ("Resources", "NeverFits")
NO_AGENTS = Cause("NoAgents", "there are no agents")


def causes_of(fit: Fit) -> list[Cause]:
    """Everything that keeps a need off the cluster; of what fits now, that it does."""
    if not fit.agents:
        return [NO_AGENTS]
    groups = sorted(fit.groups, key=lambda group: (-group.agents, group.reason))
    by_reason: dict[str, list[Cause]] = {}
    # Where the volume is that is asked for says more than where it is not.
    tells_where = any(group.reason == "NoVolume" for group in groups)
    for group in groups:
        cause = Cause(_word(group), group_text(group, tells_where))
        by_reason.setdefault(group.reason, []).append(cause)
    quota = [Cause("Quota", quota_text(room)) for room in fit.quota]
    order = ["Filtered", "Resources", "Draining", "Unreachable", "NeverFits", "Reserved"]
    found: list[Cause] = []
    if fit.verdict == "never":
        order = ["NeverFits", "Reserved", "NoVolume", "Constraint"]
        return [*quota, *[cause for reason in order for cause in by_reason.pop(reason, [])]]
    # While a quota keeps the role off, room on an agent is nothing to be waited for.
    fitting = by_reason.pop("", [])
    found += quota or fitting
    found += by_reason.pop("OfferPending", [])
    rivals = [Cause(rival.reason, rival_text(rival)) for rival in fit.rivals]
    in_use = by_reason.get("Resources", [])
    found += by_reason.pop("Preempting", [])
    if in_use and not fit.count("now"):
        found += rivals
    elif not fit.count("now", "idle"):
        # What is withheld or away is all that would do: it is not one cause among others.
        order = ["Draining", "Unreachable", *order]
    for reason in [*order, "NoVolume", "Constraint"]:
        found += by_reason.pop(reason, [])
    return found


def _word(group: AgentGroup) -> str:
    """The word of the table of reasons: what fits now waits for its offer."""
    return {"": "OfferPending", "Reserved": "NeverFits"}.get(group.reason, group.reason)


def group_text(group: AgentGroup, has_volume: bool = False) -> str:
    """One sentence about agents that have something in common, such as the volume asked for."""
    if has_volume and group.reason in _LACKING and not group.text:
        return f"the volume is on {_named(group)}: {group_text(group)}"
    one = group.agents == 1
    who = "1 agent" if one else f"{group.agents} agents"
    where = f" ({_named(group)})"
    match group.reason:
        case "":
            return f"it fits now on {who}{where}: an offer is to be expected"
        case "OfferPending":
            return f"{who}{where} {'is' if one else 'are'} being offered"
        case "Filtered":
            left = duration_words(round(group.left_s or 0.0, 1))
            had = "was declined and is" if one else "were declined and are"
            return f"{who}{where} {had} not offered for another {left}"
        case "Preempting":
            return f"{who}{where} {'is' if one else 'are'} being cleared for it: {group.text}"
        case "Resources" if group.text:
            return f"{who}{where} {'has' if one else 'have'} enough, but it is {group.text}"
        case "Resources":
            return f"{who} {'lacks' if one else 'lack'} {_lacks(group.lacks, 'free')}"
        case "Draining":
            return f"{who}{where} {'is' if one else 'are'} {group.text}"
        case "Unreachable":
            return f"{who}{where} {'does' if one else 'do'} not answer"
        case "Reserved":
            has = "has" if one else "have"
            return f"{who}{where} {has} enough only with what is reserved for {group.text}"
        case "NoVolume":
            return f"{who}{where}: {group.text or 'no such volume'}"
        case "NeverFits":
            are = "is" if one else "are"
            return f"{who} {are} too small: {_lacks(group.lacks, 'there is')}"
        case _:
            missed = f": {group.text}" if group.text else ""
            return f"{who}{where} {'is' if one else 'are'} excluded by its constraint{missed}"


def _named(group: AgentGroup) -> str:
    """The first of them by name."""
    return ", ".join(group.names[:3]) + (", …" if group.agents > 3 else "")


def _lacks(lacks: tuple[Lack, ...], what: str) -> str:
    return ", ".join(_lack(lack, what) for lack in lacks)


def _lack(lack: Lack, what: str) -> str:
    if lack.name == VOLUMES:
        return f"volume {lack.text.strip('{}')}, which is in use"
    if lack.text:
        return f"{lack.name} (needs {lack.text})"
    need, most = (amount_words(lack.name, each) for each in (lack.need_milli, lack.most_milli))
    return f"{lack.name} (needs {need}; most {what} {most} on {lack.agent})"


def rival_text(rival: Rival) -> str:
    """Who is offered first, and why."""
    theirs, ours = rival.theirs, rival.ours
    if rival.reason == "Priority":
        return (
            f"{theirs.name} has priority {theirs.priority}, {ours.name} {ours.priority}:"
            f" {theirs.name} is offered first"
        )
    if rival.reason == "Lot":
        chances = [f"{one.name} (weight {one.weight_milli / 1000:g})" for one in (theirs, ours)]
        return f"it is drawn by lot who is offered what becomes free: {' or '.join(chances)}"
    weights = ""
    if (theirs.weight_milli, ours.weight_milli) != (1000, 1000):
        weights = f", over weights {theirs.weight_milli / 1000:g} and {ours.weight_milli / 1000:g}"
    dominant = f" ({ours.dominant})" if ours.dominant else ""
    return (
        f"{ours.name}: dominant share {ours.share_milli / 1000:g}{dominant}, {theirs.name}:"
        f" {theirs.share_milli / 1000:g}{weights}: {theirs.name} is offered first"
    )


def quota_text(room: QuotaRoom) -> str:
    """What a limit leaves."""
    left, need = (amount_words(room.name, each) for each in (room.room_milli, room.need_milli))
    why = "the rest is kept for guarantees of others"
    if room.limit_milli is not None:
        why = f"its limit is {amount_words(room.name, room.limit_milli)}"
    return f"role {room.role} may hold {left} more {room.name} ({why}), needs {need}"


def advice_of(fit: Fit, cause: Cause) -> str:
    """What would get it running."""
    match cause.reason:
        case "NoAgents":
            return "start an agent (mesosctl agent)"
        case "OfferPending":
            return "wait a moment"
        case "Quota":
            role = fit.quota[0].role
            return f"wait until role {role} holds less, or change the quota (mesosctl quota list)"
        case "Priority" | "Share":
            return f"wait until {fit.rivals[0].theirs.name} has what it wants, or something ends"
        case "Lot":
            return "wait until it is drawn, or raise the weight of its role (mesosctl role set)"
        case "Filtered":
            return "wait until then"
        case "Preempting":
            return "wait until the preempted tasks have ended, within their grace"
        case "Draining":
            names = [name for g in fit.groups if g.reason == "Draining" for name in g.names]
            return f"mesosctl undrain {names[0]}, or wait until its maintenance is over"
        case "Unreachable":
            return "wait until it is back, or start another agent"
        case "NoVolume":
            return "make it, or use a framework of its role (mesosctl volume list)"
        case "Constraint":
            return "change its constraint, or start an agent that fulfils it"
        case _:
            return _less(fit, cause)


def _less(fit: Fit, cause: Cause) -> str:
    """What to ask for instead, where one resource alone is short."""
    wait = "wait until something ends" if cause.reason == "Resources" else "start a larger agent"
    for group in fit.groups:
        if group.reason != cause.reason or len(group.lacks) != 1:
            continue
        [lack] = group.lacks
        amount = amount_words(lack.name, lack.most_milli)
        if lack.name in _OPTIONS and lack.most_milli and not lack.text:
            when = " now" if cause.reason == "Resources" else " when idle"
            return f"{_OPTIONS[lack.name]} {amount} fits {lack.agent}{when}; or {wait}"
    return wait
