; Not built here: Inno Setup 6 script, used by build.ps1. Installs for one user, without administrator's rights.
; Writes no Run key: only the app's own switch does.
[Setup]
AppId={{6E0C4C0B-6D3E-4B5C-9C1B-1E0F6B7D9A51}
AppName=Nexus
AppVersion={#Version}
DefaultDirName={localappdata}\Programs\Nexus
DisableProgramGroupPage=yes
PrivilegesRequired=lowest
ArchitecturesAllowed=x64compatible
ArchitecturesInstallIn64BitMode=x64compatible
Compression=lzma2
SolidCompression=yes
LicenseFile=..\..\LICENSE
OutputDir=..\..\dist
OutputBaseFilename=nexus-{#Version}-windows-x64
CloseApplications=yes

[Files]
Source: "..\..\dist\nexus\*"; DestDir: "{app}"; Flags: recursesubdirs ignoreversion

[Icons]
Name: "{autoprograms}\Nexus"; Filename: "{app}\nexus-gui.exe"

[UninstallRun]
Filename: "{app}\nexusnode.exe"; Parameters: "stop"; Flags: runhidden; RunOnceId: "stop"

[Code]
procedure CurUninstallStepChanged(Step: TUninstallStep);
var Data: String;
begin
  Data := ExpandConstant('{localappdata}\nexus');
  if (Step = usPostUninstall) and DirExists(Data) and not UninstallSilent then
    if MsgBox('Delete downloaded models, settings and this computer''s identity too?' + #13#10 + Data,
              mbConfirmation, MB_YESNO or MB_DEFBUTTON2) = IDYES then
      DelTree(Data, True, True, True);
end;
