#!/usr/bin/env bash
# Runs the kernels' tests with AVX-512 on a machine that has none: in Bochs, under Debian's kernel.
# Slow (ten minutes) and not part of CI. Needs root and Debian, for its packages.
#
#   tests/avx512/run.sh                  all that is AVX-512
#   tests/avx512/run.sh TEST FLAGS…      these, say -test.run='^TestDots$/kernel=avx512' -test.v
#
# Debian's Bochs stops for good after some 4·10⁹ instructions, so a few tests go to a machine. Left
# out are TestConversions and TestRound: their assembly is AVX2's, which runs on real machines, and
# this Bochs rounds float16 wrongly where it lies halfway.
#
# MFAC_AVX512_TIMEOUT (1800) bounds a machine, in seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso cpio bsdutils >/dev/null

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/guest" "$tmp/iso/isolinux" "$tmp/deb"

image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | head -1)
(cd "$tmp/deb" && apt-get download -qq "$image" && dpkg-deb --fsys-tarfile ./*.deb | tar x --wildcards './boot/vmlinuz-*')
cp "$tmp"/deb/boot/vmlinuz-* "$tmp/iso/vmlinuz"

CGO_ENABLED=0 go test -c -o "$tmp/guest/test" ./shard/kernel
CGO_ENABLED=0 go build -o "$tmp/guest/init" ./tests/avx512/init
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$tmp/iso/isolinux/"
# Bochs reports a size of XSAVE's area that Linux takes for a defect and then turns AVX off; and its
# time stamp counter counts instructions, not time.
cat >"$tmp/iso/isolinux/isolinux.cfg" <<'C'
default l
prompt 0
timeout 0
label l
 kernel /vmlinuz
 append initrd=/initrd console=ttyS0 quiet loglevel=3 nokaslr mitigations=off nosmp noapic nohpet panic=-1 random.trust_cpu=on cryptomgr.notests tsc=unstable clearcpuid=xsaves,xsavec
C
cat >"$tmp/bochsrc" <<C
plugin_ctrl: unmapped=1, e1000=0, es1370=0, sb16=0
config_interface: textconfig
display_library: term
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=corei7_skylake_x, count=1, ips=20000000, reset_on_triple_fault=0
clock: sync=none, time0=local, rtc_sync=0
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="$tmp/disk.iso", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev="$tmp/serial"
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
log: "$tmp/log"
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
C
echo c >"$tmp/commands" # Debian's Bochs begins in its debugger: go on

# machine runs the tests that its flags say in a machine of their own.
machine() {
	printf '%s\n' -test.timeout=0 "$@" >"$tmp/guest/args"
	(cd "$tmp/guest" && find . | cpio -o -H newc -R 0:0 --quiet) >"$tmp/iso/initrd"
	xorriso -as mkisofs -quiet -o "$tmp/disk.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$tmp/iso" 2>/dev/null
	: >"$tmp/serial"
	# Its display wants a terminal.
	script -qec "stty raw cols 100 rows 50 2>/dev/null; TERM=linux timeout --foreground -s KILL ${MFAC_AVX512_TIMEOUT:-1800} bochs-bin -q -f '$tmp/bochsrc' -rc '$tmp/commands'" /dev/null >/dev/null 2>&1 </dev/null || true
	tr -d '\r' <"$tmp/serial" >"$tmp/out"
	grep -v '^exit status [0-9]*\.$' "$tmp/out" || true
	local status
	status=$(sed -n 's/^exit status \([0-9]*\)\.$/\1/p' "$tmp/out" | tail -1)
	if [[ -z $status ]]; then
		echo 'avx512: the machine ended without a result; the emulator says:'
		tail -5 "$tmp/log"
		return 125
	fi
	return "$status"
}

if (($#)); then
	machine "$@"
	exit
fi
for tests in '^TestDots$/kernel=avx512/dtype='{f32,bf16,f16} '^TestCombine$/kernel=avx512/dtype='{f32,bf16,f16} \
	'^Test(Gram|Dot|NotFinite|Solve)$/kernel=avx512' '^Test(CombineLeftOutIsZero|PutGet|Finish|Lengths)$/kernel=avx512'; do
	machine -test.short -test.v -test.run="$tests"
	if ! grep -q -- '--- PASS: .*/kernel=avx512' "$tmp/out"; then # what doesn't run would not be missed
		echo "avx512: no test of $tests ran: has the machine no AVX-512?"
		exit 1
	fi
done
