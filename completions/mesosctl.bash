# bash completion for mesosctl
# Written by tools/completions.py: change the commands instead.

_mesosctl()
{
    local cur prev path kind words_ok=1 i word
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    # bash splits --option=value at the sign; what counts is the option before it.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = && COMP_CWORD -ge 2 ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
    path=
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == -- ]]; then
            words_ok=
            break
        fi
        _mesosctl_kind "$path" "$word"
        if [[ $kind ]]; then
            ((i + 1 < COMP_CWORD)) && [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
            ((i++))
            continue
        fi
        [[ $word == -* ]] && continue
        case "$path $word" in
            " master") path=master ;;
            " framework") path=framework ;;
            " submit") path=submit ;;
            " jobs") path=jobs ;;
            " tasks") path=tasks ;;
            " status") path=status ;;
            " logs") path=logs ;;
            " wait") path=wait ;;
            " kill") path=kill ;;
            " config") path=config ;;
            "config show") path=config-show ;;
            "config path") path=config-path ;;
            "config get") path=config-get ;;
            "config set") path=config-set ;;
            "config use") path=config-use ;;
            "config contexts") path=config-contexts ;;
            "config check") path=config-check ;;
            " keygen") path=keygen ;;
            " completion") path=completion ;;
            " help") path=help ;;
            " version") path=version ;;
        esac
        case $path in
            submit) [[ $word == submit ]] || { words_ok=; break; } ;;
        esac
    done
    if [[ ! $words_ok ]]; then
        compopt -o default 2>/dev/null
        return
    fi
    _mesosctl_kind "$path" "$prev"
    if [[ ! $kind && $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$(_mesosctl_options "$path")" -- "$cur"))
        return
    fi
    [[ $kind ]] || kind=$(_mesosctl_words "$path")
    case $kind in
        any) ;;
        FILE) compopt -o default 2>/dev/null ;;
        DIR)
            COMPREPLY=($(compgen -d -- "$cur"))
            compopt -o filenames 2>/dev/null
            ;;
        *) COMPREPLY=($(compgen -W "$kind" -- "$cur")) ;;
    esac
}

# What follows this option (choices, FILE, DIR, any), in $kind; nothing for a flag.
_mesosctl_kind()
{
    kind=
    case "$1 $2" in
        master\ --listen) kind="any" ;;
        master\ --advertise) kind="any" ;;
        master\ --work-dir) kind="DIR" ;;
        master\ --cluster) kind="any" ;;
        master\ --allocator) kind="any" ;;
        master\ --allocation-interval) kind="any" ;;
        master\ --offer-timeout) kind="any" ;;
        master\ --agent-timeout) kind="any" ;;
        master\ --weights) kind="any" ;;
        master\ --priorities) kind="any" ;;
        framework\ --name) kind="any" ;;
        framework\ -R|framework\ --role) kind="any" ;;
        framework\ --work-dir) kind="DIR" ;;
        framework\ --listen) kind="any" ;;
        framework\ --advertise) kind="any" ;;
        framework\ --failover-timeout) kind="any" ;;
        framework\ --filter) kind="any" ;;
        submit\ -a|submit\ --array) kind="any" ;;
        submit\ --each-line) kind="FILE" ;;
        submit\ --max-running) kind="any" ;;
        submit\ -p|submit\ --priority) kind="any" ;;
        submit\ -i|submit\ --stdin) kind="FILE" ;;
        submit\ -n|submit\ -J|submit\ --name) kind="any" ;;
        submit\ -c|submit\ --cpus) kind="any" ;;
        submit\ -m|submit\ --mem) kind="any" ;;
        submit\ -t|submit\ --time) kind="any" ;;
        submit\ --grace) kind="any" ;;
        submit\ -R|submit\ --role) kind="any" ;;
        submit\ -u|submit\ --user) kind="any" ;;
        submit\ -E|submit\ --env) kind="any" ;;
        submit\ --env-base) kind="default all basic none" ;;
        submit\ -D|submit\ --chdir) kind="DIR" ;;
        submit\ -o|submit\ --stdout) kind="FILE" ;;
        submit\ -e|submit\ --stderr) kind="FILE" ;;
        submit\ --wrap) kind="any" ;;
        jobs\ -s|jobs\ --state) kind="any" ;;
        jobs\ -n|jobs\ --name) kind="any" ;;
        jobs\ -o|jobs\ --output) kind="table wide json jsonl csv name" ;;
        jobs\ --fields) kind="any" ;;
        tasks\ -s|tasks\ --state) kind="any" ;;
        tasks\ -o|tasks\ --output) kind="table wide json jsonl csv name" ;;
        tasks\ --fields) kind="any" ;;
        status\ -o|status\ --output) kind="table wide json jsonl csv name" ;;
        status\ --fields) kind="any" ;;
        logs\ -n|logs\ --lines) kind="any" ;;
        logs\ --attempt) kind="any" ;;
        wait\ --timeout) kind="any" ;;
        kill\ -s|kill\ --signal) kind="any" ;;
        kill\ --grace) kind="any" ;;
        kill\ --state) kind="any" ;;
        kill\ --reason) kind="any" ;;
        config-contexts\ -o|config-contexts\ --output) kind="table wide json jsonl csv name" ;;
        config-contexts\ --fields) kind="any" ;;
        keygen\ --kind) kind="agent framework client operator" ;;
        keygen\ --users) kind="any" ;;
        keygen\ --roles) kind="any" ;;
        keygen\ --dir) kind="DIR" ;;
        keygen\ --work-dir) kind="DIR" ;;
    esac
    case $2 in
        -C|--context) kind="any" ;;
        --key) kind="FILE" ;;
        --master) kind="any" ;;
        --config) kind="FILE" ;;
        --color) kind="auto always never" ;;
        --request-timeout) kind="any" ;;
    esac
}

_mesosctl_options()
{
    case $1 in
        master) echo "--listen --advertise --work-dir --cluster --allocator --allocation-interval --offer-timeout --agent-timeout --weights --priorities --no-framework --check" ;;
        framework) echo "--name -R --role --work-dir --listen --advertise --failover-timeout --filter" ;;
        submit) echo "-a --array --each-line --max-running -p --priority -i --stdin -n -J --name -c --cpus -m --mem -t --time --grace -R --role -u --user -E --env --env-base -D --chdir --sandbox -o --stdout -e --stderr --append --wrap --once --restartable -W --wait --progress --kill-on-exit --parsable --json --dry-run" ;;
        jobs) echo "-a --all -A --everyone -s --state -n --name -o --output --json --fields" ;;
        tasks) echo "-A --everyone -s --state -o --output --json --fields" ;;
        status) echo "-w --watch --tasks -o --output --json --fields" ;;
        logs) echo "-f --follow --out --err --all -n --lines --tag --attempt --exit-code" ;;
        wait) echo "--timeout --progress" ;;
        kill) echo "-s --signal --grace --state --reason -y --yes --json" ;;
        config-show) echo "--sources --json" ;;
        config-contexts) echo "-o --output --json --fields" ;;
        keygen) echo "--kind --users --roles --dir --work-dir" ;;
        completion) echo "--install" ;;
        version) echo "--json" ;;
    esac
    echo "-C --context --key --master --config --color -v --verbose -q --quiet --request-timeout --utc -h --help -V --version"
}

_mesosctl_words()
{
    case $1 in
        "") echo "master framework submit jobs tasks status logs wait kill config keygen completion help version" ;;
        master) echo "any" ;;
        framework) echo "any" ;;
        submit) echo "FILE" ;;
        jobs) echo "any" ;;
        tasks) echo "any" ;;
        status) echo "any" ;;
        logs) echo "any" ;;
        wait) echo "any" ;;
        kill) echo "any" ;;
        config) echo "show path get set use contexts check" ;;
        config-show) echo "any" ;;
        config-path) echo "any" ;;
        config-get) echo "any" ;;
        config-set) echo "any" ;;
        config-use) echo "any" ;;
        config-contexts) echo "any" ;;
        config-check) echo "any" ;;
        keygen) echo "any" ;;
        completion) echo "bash zsh fish" ;;
        help) echo "master agent framework local submit run jobs tasks status logs wait kill agents frameworks offers roles config keygen completion help version values states exit-codes environment files" ;;
        version) echo "any" ;;
    esac
}

complete -F _mesosctl mesosctl
