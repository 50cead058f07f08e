#!/usr/bin/env bash
# Not built here: a recipe for a runner with macOS 14 (arm64; macOS 13 for x86_64) and Python 3.11. Nobody has run it yet.
# Makes dist/nexus-<version>-macos-<arch>.dmg.
#   needs: Xcode's command line tools and cmake
#   NEXUS_SIGN_IDENTITY signs ("Developer ID Application: …"); NEXUS_NOTARY_PROFILE notarises (notarytool store-credentials)
set -euo pipefail
cd "$(dirname "$0")/../.."

python3.11 -m venv .venv
# Metal's shaders go into the library: a bundle holds no loose .metallib.
CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_METAL=ON -DGGML_METAL_EMBED_LIBRARY=ON" \
  .venv/bin/python -m pip install -c packaging/lock/cpu.txt ".[node,gui]" pyinstaller==6.22.3
version=$(.venv/bin/python -c 'from importlib.metadata import version; print(version("nexusnode"))')

iconset=build/nexus.iconset
mkdir -p "$iconset"
.venv/bin/python packaging/windows/icon.py build/nexus.png
for size in 16 32 128 256; do
  sips -z $size $size build/nexus.png --out "$iconset/icon_${size}x${size}.png" >/dev/null
done
iconutil --convert icns --output build/nexus.icns "$iconset"
NEXUS_ICON=$PWD/build/nexus.icns PYTHONHASHSEED=0 .venv/bin/python packaging/build_app.py

app=dist/Nexus.app
dmg=dist/nexus-$version-macos-$(uname -m).dmg
ln -sf nexus-gui "$app/Contents/MacOS/nexusnode"
cp -R dist/nexus/licences dist/nexus/sbom.cdx.json "$app/Contents/Resources/"
if [ -n "${NEXUS_SIGN_IDENTITY:-}" ]; then
  # From the inside out: a signature covers what it contains.
  find "$app" -type f \( -name '*.dylib' -o -name '*.so' \) -print0 |
    xargs -0 -n 20 codesign --force --timestamp --options runtime --sign "$NEXUS_SIGN_IDENTITY"
  codesign --force --timestamp --options runtime --entitlements packaging/macos/entitlements.plist \
    --sign "$NEXUS_SIGN_IDENTITY" "$app"
  codesign --verify --deep --strict "$app"
fi
hdiutil create -volname Nexus -srcfolder "$app" -ov -format UDZO "$dmg"
if [ -n "${NEXUS_NOTARY_PROFILE:-}" ]; then
  xcrun notarytool submit "$dmg" --keychain-profile "$NEXUS_NOTARY_PROFILE" --wait
  xcrun stapler staple "$dmg"
fi
"$app/Contents/MacOS/nexusnode" doctor --json --data "$(mktemp -d)"
shasum -a 256 "$dmg"
