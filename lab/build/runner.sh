# The program that boots the VMs.
(cd "$lab/.." && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$out/labrun" ./lab/labrun)
