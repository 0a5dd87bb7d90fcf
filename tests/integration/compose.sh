#!/usr/bin/env bash
# Tries deploy/ for real on a machine without Docker and without an image registry: builds the
# image, starts NATS, two coordinators and three workers, publishes gradients, checks an answer, stops
# a coordinator and asks again.
#
#   sudo tests/integration/compose.sh
#
# Opt-in: needs root, Linux, Go and Debian's apt, and installs docker.io, docker-compose and
# busybox-static if they are missing. It does not use or disturb a Docker engine that already
# runs: its own has its own network, mount and process namespaces, socket and data, and all of it
# is gone when the script ends. Nothing is sent beyond these namespaces.
#
# The base images are stand-ins made of this machine's files and tagged with the names that
# compose.yaml and Dockerfile ask for: busybox with a nats-server built from the module's own
# version, and busybox with this machine's Go and a file proxy of the modules. So it shows that
# our files work, not that the published images do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

workers=3
fail() { echo "compose.sh: $*" >&2; exit 1; }
step() { printf '== %4ds %s\n' "$SECONDS" "$*"; }

# ---- second half: inside the namespaces, started by the first half ----

inside() {
	work=$1 SECONDS=$2 dockerd_pid='' ok='' # not local: the trap on EXIT reads them
	export DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
	export HOME=$work/home # no one's Docker configuration but our own
	mkdir -p "$HOME"
	compose() { docker-compose --project-name mfac-it --file deploy/compose.yaml "$@"; }
	mfac() { timeout 60 "$work/bin/mfac" "$@"; }

	# shellcheck disable=SC2317 # reached by the trap
	cleanup() {
		if [[ -n $dockerd_pid ]]; then
			if [[ -z $ok ]]; then
				echo '-- what the containers said:'
				compose ps || true
				compose logs --no-color --tail=50 || true
				tail -n 20 "$work/dockerd.log" || true
			fi
			compose down --volumes --timeout 10 >/dev/null 2>&1 || true
			kill "$dockerd_pid" 2>/dev/null || true
			wait "$dockerd_pid" 2>/dev/null || true
		fi
	}
	trap cleanup EXIT

	step 'start dockerd'
	ip link set lo up
	mkdir -p "$work/data" "$work/exec"
	dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" \
		--pidfile "$work/dockerd.pid" --log-level warn >"$work/dockerd.log" 2>&1 &
	dockerd_pid=$!
	for _ in {1..60}; do
		docker info >/dev/null 2>&1 && break
		kill -0 "$dockerd_pid" 2>/dev/null || fail "dockerd ended: $(tail -n 5 "$work/dockerd.log")"
		sleep 0.5
	done
	docker info --format '{{.ServerVersion}}, storage {{.Driver}}, cgroups v{{.CgroupVersion}}'

	step 'import the stand-ins for the base images'
	tar -C "$work/nats-root" -c . | docker import - "$nats_image"
	tar -C "$work/go-root" --exclude=./usr/local/go/test --exclude=./usr/local/go/pkg/mod -c . |
		docker import \
			--change 'ENV PATH=/usr/local/go/bin:/bin HOME=/root GOPROXY=file:///proxy GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=-modcacherw' \
			- "$go_image"

	step 'build the image'
	compose build --quiet coordinator

	step "start NATS, two coordinators and $workers workers"
	compose up --detach --no-build --scale worker="$workers" --scale coordinator=2
	await_health $((3 + workers))
	compose ps

	step 'create a run, publish, ask'
	export NATS_URL=nats://127.0.0.1:4222
	mfac run create digits --dim 12730 --window 32 --damping 0.01 --shards "$workers"
	mfac publish digits --step 0 "$work/npy/grads.npy"
	mfac ihvp digits "$work/npy/v.npy" --out "$work/npy/x.npy"
	compare "$work/npy/x.npy" "$work/npy/ihvp_0.01.npy"
	mfac status

	step "stop the run's coordinator, ask again"
	local owner # by its name: the container's id, cut to 12 digits, and four digits more
	owner=$(mfac run show digits --json | sed -n 's/.*"coordinator": *"\([^"]*\)-[0-9a-f]*".*/\1/p')
	docker stop -t 20 "$owner"
	mfac ihvp digits "$work/npy/v.npy" --out "$work/npy/x.npy" --min-rows 32
	compare "$work/npy/x.npy" "$work/npy/ihvp_0.01.npy"

	step 'remove the run, take all down'
	mfac run rm digits
	compose down --volumes --timeout 20

	step 'done'
	ok=1
}

# await_health waits until as many containers as told are there, and all are healthy.
await_health() {
	local want=$1 states=
	for _ in {1..60}; do
		states=$(compose ps --quiet | xargs -r docker inspect --format '{{.State.Health.Status}}')
		if [[ $(grep -c . <<<"$states") == "$want" ]] && ! grep -qv '^healthy$' <<<"$states"; then
			return
		fi
		sleep 1
	done
	fail "not healthy after 60 s: ${states//$'\n'/, }"
}

# compare checks a float32 answer against the float64 one, to the tolerance of testdata/README.md.
compare() {
	python3 - "$1" "$2" <<'PY'
import array, ast, struct, sys

def load(path):
    raw = open(path, "rb").read()
    assert raw[:6] == b"\x93NUMPY", path
    size, at = struct.unpack_from("<H", raw, 8)[0], 10
    if raw[6] > 1:
        size, at = struct.unpack_from("<I", raw, 8)[0], 12
    kind = ast.literal_eval(raw[at:at + size].decode())["descr"]
    numbers = array.array({"<f4": "f", "<f8": "d"}[kind])
    numbers.frombytes(raw[at + size:])
    return numbers

got, want = load(sys.argv[1]), load(sys.argv[2])
assert len(got) == len(want), (len(got), len(want))
top = max(map(abs, want))
for i, (g, w) in enumerate(zip(got, want)):
    if not abs(g - w) <= max(1.2e-7 * abs(w), 6e-8 * top):
        sys.exit(f"element {i} is {g}, want {w}")
print(f"{len(got)} elements agree with the dense answer")
PY
}

# ---- first half: outside, where packages and modules can be had ----

[[ $(uname -s) == Linux && $EUID == 0 ]] || fail 'needs Linux and root'
command -v go >/dev/null || fail 'needs Go'

nats_image=$(awk '$1 == "image:" && $2 ~ /^nats:/ {print $2}' deploy/compose.yaml)
go_image=$(awk '$1 == "FROM" && $2 ~ /^golang:/ {print $2}' deploy/Dockerfile)
[[ -n $nats_image && -n $go_image ]] || fail 'no nats or golang image named in deploy/'

if [[ ${1-} == --inside ]]; then
	inside "$2" "$3"
	exit
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/mfac-compose.XXXXXX")
child=''
trap '[[ -z $child ]] || kill -KILL "$child" 2>/dev/null || true; rm -rf "$work"' EXIT

step 'install what is missing'
missing=()
command -v dockerd >/dev/null && command -v docker >/dev/null || missing+=(docker.io)
command -v docker-compose >/dev/null || missing+=(docker-compose)
[[ -x /bin/busybox ]] || missing+=(busybox-static)
command -v ip >/dev/null || missing+=(iproute2)
command -v iptables >/dev/null || missing+=(iptables)
command -v python3 >/dev/null || missing+=(python3)
if ((${#missing[@]})); then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

step 'build mfac and nats-server'
export CGO_ENABLED=0
mkdir -p "$work/bin" "$work/npy"
go build -o "$work/bin/" ./cmd/mfac
python3 -m zipfile -e testdata/mnist_mlp16_m32.npz "$work/npy"

busybox_root() {
	mkdir -p "$1"/{bin,etc,tmp,root,usr/local/go}
	chmod 1777 "$1/tmp"
	cp /bin/busybox "$1/bin/"
	local applet
	for applet in sh wget mkdir ls cat touch rm cp; do ln -s busybox "$1/bin/$applet"; done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
}

busybox_root "$work/nats-root"
go build -o "$work/nats-root/bin/nats-server" github.com/nats-io/nats-server/v2

step "lay out Go $(go env GOVERSION) and the modules"
busybox_root "$work/go-root"
cp -a "$(go env GOROOT)/." "$work/go-root/usr/local/go"
# A file proxy of just these modules, filled from the module cache where it has them.
GOMODCACHE=$work/modcache GOFLAGS=-modcacherw GOSUMDB=off \
	GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" go mod download
mv "$work/modcache/cache/download" "$work/go-root/proxy"
rm -rf "$work/modcache"

# If this script is ended early its trap kills unshare, and with it all that runs in there.
unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private \
	"$BASH" tests/integration/compose.sh --inside "$work" "$SECONDS" &
child=$!
wait "$child"
child=''
