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
            " agent") path=agent ;;
            " framework") path=framework ;;
            " local") path=local ;;
            " submit") path=submit ;;
            " run") path=run ;;
            " jobs") path=jobs ;;
            " tasks") path=tasks ;;
            " status") path=status ;;
            " explain") path=explain ;;
            " logs") path=logs ;;
            " wait") path=wait ;;
            " kill") path=kill ;;
            " agents") path=agents ;;
            " drain") path=drain ;;
            " undrain") path=undrain ;;
            " deactivate") path=deactivate ;;
            " gone") path=gone ;;
            " frameworks") path=frameworks ;;
            " offers") path=offers ;;
            " roles") path=roles ;;
            " role") path=role ;;
            "role set") path=role-set ;;
            " quota") path=quota ;;
            "quota list") path=quota-list ;;
            "quota set") path=quota-set ;;
            "quota unset") path=quota-unset ;;
            " reserve") path=reserve ;;
            " unreserve") path=unreserve ;;
            " volume") path=volume ;;
            "volume create") path=volume-create ;;
            "volume destroy") path=volume-destroy ;;
            "volume list") path=volume-list ;;
            " config") path=config ;;
            "config show") path=config-show ;;
            "config path") path=config-path ;;
            "config get") path=config-get ;;
            "config set") path=config-set ;;
            "config use") path=config-use ;;
            "config contexts") path=config-contexts ;;
            "config check") path=config-check ;;
            " keygen") path=keygen ;;
            " simulate") path=simulate ;;
            " completion") path=completion ;;
            " help") path=help ;;
            " version") path=version ;;
        esac
        case $path in
            local) [[ $word == local ]] || { words_ok=; break; } ;;
            submit) [[ $word == submit ]] || { words_ok=; break; } ;;
            run) [[ $word == run ]] || { words_ok=; break; } ;;
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
        master\ --zk) kind="any" ;;
        master\ --log-keep) kind="any" ;;
        master\ --parent) kind="any" ;;
        agent\ --name) kind="any" ;;
        agent\ --resources) kind="any" ;;
        agent\ --reserve) kind="any" ;;
        agent\ --attributes) kind="any" ;;
        agent\ --isolation) kind="any" ;;
        agent\ --listen) kind="any" ;;
        agent\ --advertise) kind="any" ;;
        agent\ --cgroup-root) kind="any" ;;
        agent\ --work-dir) kind="DIR" ;;
        agent\ --recover) kind="reconnect cleanup" ;;
        agent\ --log-keep) kind="any" ;;
        agent\ --log-max) kind="any" ;;
        agent\ --parent) kind="any" ;;
        framework\ --name) kind="any" ;;
        framework\ -R|framework\ --role) kind="any" ;;
        framework\ --work-dir) kind="DIR" ;;
        framework\ --listen) kind="any" ;;
        framework\ --advertise) kind="any" ;;
        framework\ --failover-timeout) kind="any" ;;
        framework\ --filter) kind="any" ;;
        framework\ --log-keep) kind="any" ;;
        local\ --agents) kind="any" ;;
        local\ --cpus) kind="any" ;;
        local\ --mem) kind="any" ;;
        local\ --isolation) kind="any" ;;
        submit\ -a|submit\ --array) kind="any" ;;
        submit\ --each-line) kind="FILE" ;;
        submit\ --max-running) kind="any" ;;
        submit\ -p|submit\ --priority) kind="any" ;;
        submit\ -i|submit\ --stdin) kind="FILE" ;;
        submit\ -n|submit\ -J|submit\ --name) kind="any" ;;
        submit\ -c|submit\ --cpus) kind="any" ;;
        submit\ -m|submit\ --mem) kind="any" ;;
        submit\ -t|submit\ --time) kind="any" ;;
        submit\ --disk) kind="any" ;;
        submit\ --gpus) kind="any" ;;
        submit\ --resources) kind="any" ;;
        submit\ --volume) kind="any" ;;
        submit\ --ulimit) kind="any" ;;
        submit\ --private) kind="tmp pids" ;;
        submit\ --constraint) kind="any" ;;
        submit\ --on) kind="any" ;;
        submit\ --not-on) kind="any" ;;
        submit\ --grace) kind="any" ;;
        submit\ --lost-after) kind="any" ;;
        submit\ -R|submit\ --role) kind="any" ;;
        submit\ -u|submit\ --user) kind="any" ;;
        submit\ -E|submit\ --env) kind="any" ;;
        submit\ --env-base) kind="default all basic none" ;;
        submit\ -D|submit\ --chdir) kind="DIR" ;;
        submit\ -o|submit\ --stdout) kind="FILE" ;;
        submit\ -e|submit\ --stderr) kind="FILE" ;;
        submit\ --log-max) kind="any" ;;
        submit\ --wrap) kind="any" ;;
        run\ -i|run\ --stdin) kind="any" ;;
        run\ -n|run\ -J|run\ --name) kind="any" ;;
        run\ -c|run\ --cpus) kind="any" ;;
        run\ -m|run\ --mem) kind="any" ;;
        run\ -t|run\ --time) kind="any" ;;
        run\ --disk) kind="any" ;;
        run\ --gpus) kind="any" ;;
        run\ --resources) kind="any" ;;
        run\ --volume) kind="any" ;;
        run\ --ulimit) kind="any" ;;
        run\ --private) kind="tmp pids" ;;
        run\ --constraint) kind="any" ;;
        run\ --on) kind="any" ;;
        run\ --not-on) kind="any" ;;
        run\ --grace) kind="any" ;;
        run\ --lost-after) kind="any" ;;
        run\ -R|run\ --role) kind="any" ;;
        run\ -u|run\ --user) kind="any" ;;
        run\ -E|run\ --env) kind="any" ;;
        run\ --env-base) kind="default all basic none" ;;
        run\ -D|run\ --chdir) kind="DIR" ;;
        run\ -o|run\ --stdout) kind="FILE" ;;
        run\ -e|run\ --stderr) kind="FILE" ;;
        run\ --log-max) kind="any" ;;
        run\ --wrap) kind="any" ;;
        jobs\ -s|jobs\ --state) kind="any" ;;
        jobs\ -n|jobs\ --name) kind="any" ;;
        jobs\ -o|jobs\ --output) kind="table wide json jsonl csv name" ;;
        jobs\ --fields) kind="any" ;;
        tasks\ -s|tasks\ --state) kind="any" ;;
        tasks\ -o|tasks\ --output) kind="table wide json jsonl csv name" ;;
        tasks\ --fields) kind="any" ;;
        status\ -o|status\ --output) kind="table wide json jsonl csv name" ;;
        status\ --fields) kind="any" ;;
        explain\ -o|explain\ --output) kind="table wide json jsonl csv name" ;;
        explain\ --fields) kind="any" ;;
        logs\ -n|logs\ --lines) kind="any" ;;
        logs\ --attempt) kind="any" ;;
        wait\ --timeout) kind="any" ;;
        kill\ -s|kill\ --signal) kind="any" ;;
        kill\ --grace) kind="any" ;;
        kill\ --state) kind="any" ;;
        kill\ --reason) kind="any" ;;
        agents\ --state) kind="registered unreachable draining drained deactivated gone" ;;
        agents\ -o|agents\ --output) kind="table wide json jsonl csv name" ;;
        agents\ --fields) kind="any" ;;
        drain\ --deadline) kind="any" ;;
        drain\ --reason) kind="any" ;;
        deactivate\ --reason) kind="any" ;;
        gone\ --reason) kind="any" ;;
        frameworks\ --teardown) kind="any" ;;
        frameworks\ -o|frameworks\ --output) kind="table wide json jsonl csv name" ;;
        frameworks\ --fields) kind="any" ;;
        offers\ -o|offers\ --output) kind="table wide json jsonl csv name" ;;
        offers\ --fields) kind="any" ;;
        roles\ -o|roles\ --output) kind="table wide json jsonl csv name" ;;
        roles\ --fields) kind="any" ;;
        role-set\ --weight) kind="any" ;;
        role-set\ --priority) kind="any" ;;
        quota-list\ -o|quota-list\ --output) kind="table wide json jsonl csv name" ;;
        quota-list\ --fields) kind="any" ;;
        quota-set\ --guarantee) kind="any" ;;
        reserve\ -R|reserve\ --role) kind="any" ;;
        unreserve\ -R|unreserve\ --role) kind="any" ;;
        volume-create\ -R|volume-create\ --role) kind="any" ;;
        volume-destroy\ -R|volume-destroy\ --role) kind="any" ;;
        volume-list\ -o|volume-list\ --output) kind="table wide json jsonl csv name" ;;
        volume-list\ --fields) kind="any" ;;
        config-contexts\ -o|config-contexts\ --output) kind="table wide json jsonl csv name" ;;
        config-contexts\ --fields) kind="any" ;;
        keygen\ --kind) kind="agent framework client operator" ;;
        keygen\ --users) kind="any" ;;
        keygen\ --roles) kind="any" ;;
        keygen\ --dir) kind="DIR" ;;
        keygen\ --work-dir) kind="DIR" ;;
        simulate\ --seed) kind="any" ;;
        simulate\ -o|simulate\ --output) kind="table json" ;;
        simulate\ --plot) kind="FILE" ;;
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
        master) echo "--listen --advertise --work-dir --cluster --allocator --allocation-interval --offer-timeout --agent-timeout --weights --priorities --preemption --zk --no-framework --log-keep --quiet-start --parent --check" ;;
        agent) echo "--name --resources --reserve --attributes --isolation --listen --advertise --no-root-tasks --cgroup-root --work-dir --recover --log-keep --log-max --check --ends-tasks --parent" ;;
        framework) echo "--name -R --role --work-dir --listen --advertise --failover-timeout --filter --log-keep" ;;
        local) echo "--agents --cpus --mem --isolation --keep" ;;
        submit) echo "-a --array --each-line --max-running -p --priority -i --stdin -n -J --name -c --cpus -m --mem -t --time --disk --gpus --resources --volume --whole-cores --ulimit --private --constraint --on --not-on --grace --lost-after -R --role -u --user -E --env --env-base -D --chdir --sandbox -o --stdout -e --stderr --append --log-max --wrap --once --restartable --preemptible --spread -W --wait --progress --kill-on-exit --parsable --json --dry-run" ;;
        run) echo "-i --stdin -n -J --name -c --cpus -m --mem -t --time --disk --gpus --resources --volume --whole-cores --ulimit --private --constraint --on --not-on --grace --lost-after -R --role -u --user -E --env --env-base -D --chdir --sandbox -o --stdout -e --stderr --append --log-max --wrap" ;;
        jobs) echo "-a --all -A --everyone -s --state -n --name -o --output --json --fields" ;;
        tasks) echo "-A --everyone -s --state -o --output --json --fields" ;;
        status) echo "-w --watch --tasks -o --output --json --fields" ;;
        explain) echo "--history -o --output --json --fields" ;;
        logs) echo "-f --follow --out --err --all -n --lines --tag --attempt --exit-code" ;;
        wait) echo "--timeout --progress" ;;
        kill) echo "-s --signal --grace --state --reason -y --yes --json" ;;
        agents) echo "--state -a --all -o --output --json --fields" ;;
        drain) echo "--deadline --reason --wait --json" ;;
        undrain) echo "--json" ;;
        deactivate) echo "--reason --json" ;;
        gone) echo "--reason -y --yes --json" ;;
        frameworks) echo "--teardown -o --output --json --fields" ;;
        offers) echo "-o --output --json --fields" ;;
        roles) echo "-o --output --json --fields" ;;
        role-set) echo "--weight --priority --json" ;;
        quota-list) echo "-o --output --json --fields" ;;
        quota-set) echo "--guarantee --force --json" ;;
        quota-unset) echo "--json" ;;
        reserve) echo "-R --role --json" ;;
        unreserve) echo "-R --role --json" ;;
        volume-create) echo "-R --role --json" ;;
        volume-destroy) echo "-R --role --json" ;;
        volume-list) echo "-o --output --json --fields" ;;
        config-show) echo "--sources --json" ;;
        config-contexts) echo "-o --output --json --fields" ;;
        keygen) echo "--kind --users --roles --dir --work-dir" ;;
        simulate) echo "--seed -o --output --json --plot" ;;
        completion) echo "--install" ;;
        version) echo "--json" ;;
    esac
    echo "-C --context --key --master --config --color -v --verbose -q --quiet --request-timeout --utc -h --help -V --version"
}

_mesosctl_words()
{
    case $1 in
        "") echo "master agent framework local submit run jobs tasks status explain logs wait kill agents drain undrain deactivate gone frameworks offers roles role quota reserve unreserve volume config keygen simulate completion help version" ;;
        master) echo "any" ;;
        agent) echo "any" ;;
        framework) echo "any" ;;
        local) echo "FILE" ;;
        submit) echo "FILE" ;;
        run) echo "FILE" ;;
        jobs) echo "any" ;;
        tasks) echo "any" ;;
        status) echo "any" ;;
        explain) echo "any" ;;
        logs) echo "any" ;;
        wait) echo "any" ;;
        kill) echo "any" ;;
        agents) echo "any" ;;
        drain) echo "any" ;;
        undrain) echo "any" ;;
        deactivate) echo "any" ;;
        gone) echo "any" ;;
        frameworks) echo "any" ;;
        offers) echo "any" ;;
        roles) echo "any" ;;
        role) echo "set" ;;
        role-set) echo "any" ;;
        quota) echo "list set unset" ;;
        quota-list) echo "any" ;;
        quota-set) echo "any" ;;
        quota-unset) echo "any" ;;
        reserve) echo "any" ;;
        unreserve) echo "any" ;;
        volume) echo "create destroy list" ;;
        volume-create) echo "any" ;;
        volume-destroy) echo "any" ;;
        volume-list) echo "any" ;;
        config) echo "show path get set use contexts check" ;;
        config-show) echo "any" ;;
        config-path) echo "any" ;;
        config-get) echo "any" ;;
        config-set) echo "any" ;;
        config-use) echo "any" ;;
        config-contexts) echo "any" ;;
        config-check) echo "any" ;;
        keygen) echo "any" ;;
        simulate) echo "FILE" ;;
        completion) echo "bash zsh fish" ;;
        help) echo "master agent framework local submit run jobs tasks status explain logs wait kill agents drain undrain deactivate gone frameworks offers roles role quota reserve unreserve volume config keygen simulate completion help version values reasons states exit-codes environment files" ;;
        version) echo "any" ;;
    esac
}

complete -F _mesosctl mesosctl
