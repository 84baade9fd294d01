# Completions of weir for bash; made by `weir completions bash`.
_weir() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path="${COMP_WORDS[1]} ${COMP_WORDS[2]}"
  COMPREPLY=()
  [ "$COMP_CWORD" -gt 1 ] || path=
  [ "$COMP_CWORD" -gt 2 ] || path=${path%% *}
  case "$before" in
    --config) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --tcp) return ;;
    --http) return ;;
    --ports-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --log-level) COMPREPLY=($(compgen -W "error warning info debug trace off" -- "$word")); return ;;
    --addr) return ;;
    --token-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --cacert) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --cert) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --key) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --model) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --video) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --sink) return ;;
    --topic) return ;;
    --qos) COMPREPLY=($(compgen -W "0 1" -- "$word")); return ;;
    --format) COMPREPLY=($(compgen -W "datagram compact" -- "$word")); return ;;
    --max-fps) return ;;
    --filling) COMPREPLY=($(compgen -W "WAIT DROP_OLDEST ADAPTIVE_DROP_OLDEST DROP_LATEST ADAPTIVE_DROP_LATEST" -- "$word")); return ;;
    --consumption) COMPREPLY=($(compgen -W "LAZY EAGER" -- "$word")); return ;;
    --privacy-masks) return ;;
    --batch-collection-timeout) return ;;
    --class-agnostic-nms) COMPREPLY=($(compgen -W "true false" -- "$word")); return ;;
    --precision) COMPREPLY=($(compgen -W "full half int8" -- "$word")); return ;;
    --confidence) return ;;
    --iou-threshold) return ;;
    --max-detections) return ;;
    --fps) return ;;
    --name) return ;;
    --names) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --family) return ;;
    --input) return ;;
    --pictures) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --seconds) return ;;
    --max-mib) return ;;
    --threads) return ;;
    --runs) return ;;
    --engine) COMPREPLY=($(compgen -W "auto cnn tract tensorrt" -- "$word")); return ;;
    --dump) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --sources) return ;;
    --decoder) COMPREPLY=($(compgen -W "auto builtin libavcodec v4l2" -- "$word")); return ;;
    --decoder-name) return ;;
    --state) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --passphrase-file) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --root) COMPREPLY=($(compgen -f -- "$word")); return ;;
  esac
  local words=
  case "$path" in
    "") words="serve demo ctl check models record bench backup restore completions manual help version --config --tcp --http --ports-file --insecure --log-level --help --version" ;;
    "ctl list") words="--addr --token-file --tls --cacert --cert --key --help" ;;
    "ctl init") words="--model --video --sink --topic --qos --format --max-fps --filling --consumption --privacy-masks --batch-collection-timeout --class-agnostic-nms --precision --confidence --iou-threshold --max-detections --addr --token-file --tls --cacert --cert --key --help" ;;
    "ctl status") words="--addr --token-file --tls --cacert --cert --key --help" ;;
    "ctl pause") words="--addr --token-file --tls --cacert --cert --key --help" ;;
    "ctl resume") words="--addr --token-file --tls --cacert --cert --key --help" ;;
    "ctl terminate") words="--addr --token-file --tls --cacert --cert --key --help" ;;
    "ctl listen") words="--help" ;;
    "models add") words="--name --names --family --input --decoded --config --help"; [ "${word#-}" != "$word" ] || COMPREPLY=($(compgen -f -- "$word")) ;;
    "models list") words="--config --help" ;;
    "models show") words="--config --help" ;;
    "models quantise") words="--video --pictures --name --config --help"; [ "${word#-}" != "$word" ] || COMPREPLY=($(compgen -f -- "$word")) ;;
    "models remove") words="--config --help" ;;
    "bench engine") words="--model --threads --runs --engine --precision --confidence --together --profile --ways --input --dump --json --help" ;;
    "bench pipeline") words="--model --video --sources --threads --seconds --max-fps --precision --json --help" ;;
    "bench decode") words="--sums --decoder --decoder-name --help"; [ "${word#-}" != "$word" ] || COMPREPLY=($(compgen -f -- "$word")) ;;
    serve|"serve "*) words="--config --tcp --http --ports-file --insecure --log-level --help --version" ;;
    demo|"demo "*) words="--config --tcp --http --ports-file --insecure --log-level --help --version" ;;
    ctl|"ctl "*) words="list init status pause resume terminate listen" ;;
    check|"check "*) words="--video --fps --config --tcp --http --ports-file --insecure --log-level --help --version"; [ "${word#-}" != "$word" ] || COMPREPLY=($(compgen -f -- "$word")) ;;
    models|"models "*) words="add list show quantise remove" ;;
    record|"record "*) words="--seconds --max-mib --with-pictures --config --help" ;;
    bench|"bench "*) words="engine pipeline decode" ;;
    backup|"backup "*) words="--config --state --passphrase-file --without-secrets --models --help"; [ "${word#-}" != "$word" ] || COMPREPLY=($(compgen -f -- "$word")) ;;
    restore|"restore "*) words="--config --state --passphrase-file --force --root --list --help"; [ "${word#-}" != "$word" ] || COMPREPLY=($(compgen -f -- "$word")) ;;
    completions|"completions "*) words="--help bash zsh fish" ;;
    manual|"manual "*) words="--help" ;;
    help|"help "*) words="serve demo ctl check models record bench backup restore completions manual help version" ;;
    version|"version "*) words="" ;;
  esac
  COMPREPLY+=($(compgen -W "$words" -- "$word"))
}
complete -o filenames -F _weir weir
