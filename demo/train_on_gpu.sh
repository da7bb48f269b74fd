#!/usr/bin/env bash
# Make the data set, train models on it, and leave best.pt, results.csv and metrics.json of each in $OUT/MODEL, with
# log.txt beside them.
#
#   OUT=/tmp/result demo/train_on_gpu.sh WHEEL_FOLDER [MODEL=yolov8n ...]
#
# Run it in the repository's root, on a machine with a CUDA GPU, PyTorch and torchvision. Several models are trained at
# the same time, each on a GPU of its own from number FIRST_GPU (default 0) on. WHEEL_FOLDER holds the wheels of
# Ultralytics that are missing there; nothing is fetched. It ends within LIMIT_S seconds (default 570), and best.pt
# reaches $OUT even when training is cut off.
set -uo pipefail

wheels=${1:?usage: OUT=FOLDER demo/train_on_gpu.sh WHEEL_FOLDER [MODEL ...]}
shift
[ $# -gt 0 ] || set -- yolov8n
: "${OUT:?set OUT to the folder for the results}"
limit=${LIMIT_S:-570}
cores=$(nproc)
site=/tmp/demo-site data=/tmp/demo-data runs=/tmp/demo-run
export YOLO_OFFLINE=true YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR=/tmp/demo-config PYTHONUNBUFFERED=1
mkdir -p "$OUT" "$site" "$YOLO_CONFIG_DIR"
exec > >(tee "$OUT/log.txt") 2>&1

python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$wheels"/*.whl || exit 1
# Ultralytics imports polars for a table that is not printed here.
python3 -c 'import polars' 2>/dev/null || : > "$site/polars.py"
export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=1

echo "wheels ready after ${SECONDS} s"
python3 -m demo.dataset --out "$data" --train "${TRAIN:-3000}" --workers "$cores" || exit 1
echo "data set ready after ${SECONDS} s"
python3 -m demo.dataset --check assets/demo/val.sha256 --workers "$cores" || echo "the validation set differs here"
echo "checked after ${SECONDS} s"

# usage: train_one MODEL GPU WORKERS
train_one() {
  local run="$runs/$1" minutes status
  mkdir -p "$run" "$OUT/$1"
  cp -al "$data" "$run/data" # Ultralytics keeps what it found beside the labels, and each writes its own
  # 35 s to start the loaders and fill the cache, 35 s for the last validation and for copying.
  minutes=$(python3 -c "print(max(0.2, ($limit - $SECONDS - 70) / 60))")
  CUDA_VISIBLE_DEVICES="$2" timeout -k 5 $((limit - SECONDS - 15)) python3 -m demo.train --model "$1.yaml" \
    --data "$run/data/data.yaml" --out "$run" --workers "$3" --minutes "$minutes" >"$OUT/$1/training.txt" 2>&1
  status=$?
  echo "training of $1 ended with status $status after ${SECONDS} s"
  if [ ! -s "$run/best.pt" ]; then
    python3 -m demo.train --out "$run" --collect
  fi
  for name in best.pt results.csv metrics.json; do
    [ -s "$run/$name" ] && cp "$run/$name" "$OUT/$1/"
  done
  return $status
}

each=$((cores > $# + 1 ? (cores - 2) / $# : 0))
gpu=${FIRST_GPU:-0} failed=0 jobs=()
for model in "$@"; do
  train_one "$model" "$gpu" "$each" &
  jobs+=($!)
  gpu=$((gpu + 1))
done
for job in "${jobs[@]}"; do
  wait "$job" || failed=1
done
ls -l "$OUT"/*/
exit $failed
