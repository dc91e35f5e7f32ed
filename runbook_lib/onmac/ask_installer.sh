# ask which launchd job each gateway's own installer would write now
# $1 node, $2 domain, $3 env wrapper, then for each gateway: name, label, package folder, env file. Nothing is installed:
# the package's own function is called, and what it answers is printed on one line. OpenClaw's command has no dry run.
node=$1 domain=$2 wrapper=$3
shift 3
while [ $# -ge 4 ]; do
    printf 'installer\t%s\t%s\n' "$1" "$("$node" --input-type=module -e '
        import fs from "node:fs";
        import path from "node:path";
        import { pathToFileURL } from "node:url";
        const [folder, label] = process.argv.slice(1), dist = path.join(folder, "dist");
        const names = fs.existsSync(dist) ? fs.readdirSync(dist).filter((name) => /^launchd-.*\.m?js$/.test(name)) : [];
        for (const file of names.map((name) => path.join(dist, name))) {
            if (!fs.readFileSync(file, "utf8").includes("function buildLaunchAgentPlist(")) continue;
            const build = Object.values(await import(pathToFileURL(file))).find((value) => value?.name === "buildLaunchAgentPlist");
            if (!build) continue;
            console.log(build({ label, programArguments: [], stdoutPath: "", stderrPath: "" }).replace(/\s*\n\s*/g, " "));
            break;
        }' "$3" "$2" 2>/dev/null)"
    printf 'loaded\t%s\t%s\n' "$1" "$(launchctl print "$domain/$2" 2>/dev/null | sed -n 's/^	exit timeout = //p')"
    printf 'mode\t%s\t%s\n' "$1" "$(/bin/sh "$wrapper" "$4" /usr/bin/printenv OPENCLAW_SUPERVISOR_MODE 2>/dev/null)"
    shift 4
done
