# Not built here: a recipe for a runner with Windows Server 2022 and Python 3.11 x64. Nobody has run it yet.
# Makes dist\nexus-<version>-windows-x64.exe, an installer for one user.
#   needs: Visual Studio 2022 build tools with C++ and CMake, Vulkan SDK, Inno Setup 6 (iscc on the path)
#   signs if NEXUS_SIGN_THUMBPRINT names a certificate of the store
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "..\..")

python -m venv .venv
$python = ".venv\Scripts\python.exe"
# Whoever lacks the Vulkan loader loses only that backend: it is loaded at run time.
$env:CMAKE_ARGS = "-DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_VULKAN=ON"
& $python -m pip install -c packaging\lock\cpu.txt ".[node,gui]" pyinstaller==6.22.3
if ($LASTEXITCODE) { throw "installation failed" }
$version = & $python -c "from importlib.metadata import version; print(version('nexusnode'))"

$env:PYTHONHASHSEED = "0"
$env:NEXUS_ICON = Join-Path (Get-Location) "build\nexus.ico"
& $python packaging\windows\icon.py $env:NEXUS_ICON
& $python packaging\build_app.py
if ($LASTEXITCODE) { throw "freezing failed" }

function Sign($files) {
    if (-not $env:NEXUS_SIGN_THUMBPRINT) { Write-Warning "not signed"; return }
    & signtool sign /sha1 $env:NEXUS_SIGN_THUMBPRINT /fd sha256 /tr http://timestamp.digicert.com /td sha256 $files
    if ($LASTEXITCODE) { throw "signing failed" }
}
# Defender trusts one folder of signed files more than one packed file; no UPX anywhere.
Sign (Get-ChildItem dist\nexus -Recurse -Include *.exe, *.dll, *.pyd).FullName
& iscc /DVersion=$version packaging\windows\nexus.iss
if ($LASTEXITCODE) { throw "the installer was not made" }
$installer = "dist\nexus-$version-windows-x64.exe"
Sign $installer

# As a user would: install, look, open, remove.
$target = Join-Path $env:LOCALAPPDATA "Programs\Nexus"
Start-Process $installer "/VERYSILENT /SUPPRESSMSGBOXES" -Wait
& "$target\nexusnode.exe" doctor --json --data "$env:TEMP\nexus-check"
$env:QT_QPA_PLATFORM = "offscreen"
$window = Start-Process "$target\nexus-gui.exe" "--background" -PassThru
if ($window.WaitForExit(5000)) { throw "the window ended with $($window.ExitCode)" }
$window.Kill()
& "$target\nexusnode.exe" stop
Start-Process "$target\unins000.exe" "/VERYSILENT /SUPPRESSMSGBOXES" -Wait
if (Test-Path $target) { throw "$target is left" }
(Get-FileHash $installer -Algorithm SHA256).Hash.ToLower() + "  " + (Split-Path $installer -Leaf)
