# shellcheck shell=bash
#
# What the other scripts share: say something, and make sure that a tool is
# there. To be sourced, never run. A missing tool is installed where that may
# be done without asking (root on a machine with apt-get, as in a container or
# on a build machine); anywhere else the one line that does it is printed.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$@"
  exit 1
}

# Installs Debian packages, or says how and ends.
#   install_packages WHAT PACKAGE...
install_packages() {
  local what=$1
  shift
  if ! command -v apt-get >/dev/null; then
    die "$what is missing. This system has no apt-get: install what Debian calls: $*"
  fi
  if [[ $(id -u) != 0 ]]; then
    die "$what is missing. This installs it: sudo apt-get update && sudo apt-get install -y $*"
  fi
  say "$what is missing: installing $*"
  if [[ -z ${apt_updated:-} ]]; then
    apt-get update -qq >&2 </dev/null || die "apt-get update failed: see above"
    apt_updated=1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null ||
    die "apt-get could not install $*: see above"
}

need_rust() {
  if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  fi
  command -v cargo >/dev/null || die "Rust is missing. This installs it:" \
    "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
}

# What the crates with C in them are built with: librdkafka needs a compiler,
# make, OpenSSL and zlib.
need_build_tools() {
  local missing=()
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v c++ >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  if ((${#missing[@]})) || ! pkg-config --exists openssl zlib; then
    install_packages "What librdkafka is built with" "${missing[@]}" libssl-dev zlib1g-dev
  fi
}

# The `java` to use: JAVA_HOME's where that is set.
java_command() { printf '%s' "${JAVA_HOME:+$JAVA_HOME/bin/}java"; }

# Kafka 4 brokers need Java 17.
java_is_recent() {
  local version
  version=$("$(java_command)" -version 2>&1 </dev/null | sed -n 's/.*version "\([0-9]*\).*/\1/p') || return 1
  [[ -n $version ]] && ((version >= 17))
}

need_java() {
  java_is_recent && return
  [[ -z ${JAVA_HOME:-} ]] ||
    die "Kafka 4 needs Java 17 or later, and JAVA_HOME ($JAVA_HOME) is none: unset it, or set it to one"
  install_packages "Java 17 or later" default-jre-headless
  java_is_recent || install_packages "Java 17 or later" openjdk-17-jre-headless
  java_is_recent || die "Kafka 4 needs Java 17 or later, but \`java -version\` is older"
}

need_maven() {
  command -v mvn >/dev/null || install_packages "Maven" maven
}

need_java_maven() {
  need_java
  need_maven
}

# What some tests share state through; they start it themselves.
need_redis() {
  command -v redis-server >/dev/null || install_packages "Redis" redis-server
}

# With it some tests give a process a wall clock of its own.
need_faketime() {
  compgen -G "/usr/lib/*/faketime/libfaketimeMT.so.1" >/dev/null || install_packages "libfaketime" libfaketime
}
