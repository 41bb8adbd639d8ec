#!/usr/bin/env bash
# Builds what a release consists of into dist/, as far as that needs no secrets: archives with the binaries, an SBOM for each of them,
# Debian and RPM packages, checksums, and the notes. .github/workflows/release.yml signs it, adds the image and publishes all of it.
#
#     ./release.sh v1.2.0             # everything
#     ./release.sh notes v1.2.0       # prints the section of CHANGELOG.md
#
# PLATFORMS chooses other platforms: PLATFORMS=linux/amd64 ./release.sh v1.2.0
set -euo pipefail
cd "$(dirname "$0")"

platforms=${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
name=caddy-llmproxy

# notes VERSION prints the section of CHANGELOG.md about a version, without its heading.
notes() {
	local section
	section=$(awk -v heading="## ${1#v}" '/^## /{on = $0 == heading || index($0, heading " ") == 1; next} on' CHANGELOG.md)
	if [[ -z ${section//[[:space:]]/} ]]; then
		echo "CHANGELOG.md has no section \"## ${1#v}\"; rename \"## Unreleased\" before you tag a release" >&2
		return 1
	fi
	sed '/./,$!d' <<<"$section"
}

# build PLATFORM VERSION builds the binary, its SBOM, its archive and, for Linux, its packages.
build() {
	local os=${1%/*} arch=${1#*/} version=${2#v}
	local label=${name}_${version}_${os}_${arch} binary=caddy
	[[ $os != windows ]] || binary=caddy.exe
	local folder=dist/build/$label
	echo "building $label"
	mkdir -p "$folder"
	GOOS=$os GOARCH=$arch CGO_ENABLED=0 go build -buildvcs=auto -trimpath -tags nobadger,nomysql,nopgx -ldflags '-w -s' -o "$folder/$binary" ./llmproxy/cmd/caddy
	GOFLAGS='' go run "$cyclonedx" bin -json -version "v$version" -output "dist/$label.sbom.json" "$folder/$binary"
	cp LICENSE README.md CHANGELOG.md Caddyfile.example "$folder"
	if [[ $os == windows ]]; then
		# Python, because zip is installed less often.
		(cd dist/build && python3 -m zipfile -c "../$label.zip" "$label")
	else
		tar -C dist/build --owner=0 --group=0 -czf "dist/$label.tar.gz" "$label"
	fi
	if [[ $os == linux ]]; then
		local format
		for format in deb rpm; do
			ARCH=$arch VERSION=$version BINARY=$folder/caddy GOFLAGS='' go run "$nfpm" package --config packaging/nfpm.yaml --packager "$format" --target "dist/$label.$format"
		done
	fi
}

main() {
	if [[ ${1-} == notes ]]; then
		notes "${2:?usage: ./release.sh notes VERSION}"
		return
	fi
	local version=${1:?usage: ./release.sh VERSION} platform
	rm -rf dist
	mkdir -p dist
	notes "$version" >dist/notes.md
	[[ $version == v* ]] || version=v0.0.0-$version # make release-dry
	for platform in $platforms; do build "$platform" "$version"; done
	rm -r dist/build
	cd dist
	sha256sum "$name"_* >checksums.txt
	ls -lh
}

main "$@"
