# The whole line on real images. Each command is printed before it runs: they are what you type next with your own data.
set -e
say() { printf '\n$ %s\n' "$*"; "$@"; }
demo=pipelines/configs/demo
out=runs/demo
say python -m pipelines.encode --config $demo/encode.yaml
say python -m pipelines.sweep --config $demo/sweep.yaml
say python -m pipelines.evaluate --config $demo/evaluate.yaml > $out/evaluate.log
say python -m pipelines.report --config $demo/report.yaml > $out/report.log
cat $out/evaluate.log $out/report.log
rm -rf $out/bundle
say python -m pipelines.export --config $demo/export.yaml
say xmadapter predict $out/bundle $demo/images/*.png
printf '\nDone.\n'
tail -n +3 $out/evaluate.log
tail -n +3 $out/report.log
