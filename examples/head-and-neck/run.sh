#!/usr/bin/env bash
# HANCOCK, from the download to AUC with intervals beside the published figures.
#
#   ./run.sh DATA OUT           DATA: the downloaded files (README.md); OUT: a folder for everything that is made
#
# FOLDS=published_out, oropharynx or cv takes another split, SEEDS=0-9 other seeds. Running it again goes on where it
# stopped; what is done is not done twice.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "${1:?give the folder with the HANCOCK files}" && pwd)
out=${2:?give a folder to write to}
folds=${FOLDS:-published_in}
seeds=${SEEDS:-0-4}
mkdir -p "$out" && cd "$out"

# 1. The cohort, and everything that is wrong with it: nothing.
"${PYTHON:-python3}" "$here/make_cohort.py" "$data" --out cohort
mmcli cohort check cohort/cohort.yaml

# 2. The tables, holes and all, and the tissue tiles of all stains as one bag of up to 16 tiles a patient. One stain
#    as a modality of its own: mmcli store import cohort/tiles/he.npz --layout npz --modality he ...
mmcli preprocess cohort/cohort.yaml --out tables.h5
mmcli store import cohort/tiles --layout npz --modality tissue --cohort cohort/cohort.yaml --out tissue.h5
mmcli store verify tables.h5 tissue.h5

# 3. The holes of each table, filled by what the training patients of the split teach.
for table in metastasis clinical pathological blood icd cell_density; do
  mmcli impute tables.h5 --table $table --method mice --folds $folds --out imputed-$folds-$table.h5
done

# 4. For each task: the five tables; with their holes filled; without the column that may tell the outcome; with tissue.
for task in recurrence survival; do
  runs=runs/$folds/$task
  mmcli train-teacher tables.h5 --label $task --folds $folds --seeds $seeds --out $runs/tables
  mmcli train-teacher tables.h5 imputed-$folds-*.h5 --label $task --folds $folds --seeds $seeds --imputer mice --out $runs/tables-mice
  mmcli train-teacher tables.h5 --label $task --folds $folds --seeds $seeds --modalities clinical,pathological,blood,icd,cell_density --out $runs/tables-without-metastasis
  mmcli train-teacher tables.h5 tissue.h5 --label $task --folds $folds --seeds $seeds --out $runs/tables-and-tissue
done

# 5. AUC with intervals, each task's four runs compared with the first.
for task in recurrence survival; do
  runs=runs/$folds/$task
  mmcli evaluate $runs/tables $runs/tables-mice $runs/tables-without-metastasis $runs/tables-and-tissue --reference $runs/tables --bootstrap-ci --out report/$folds/$task
done
case $folds in
  published_in) echo "Published, random forest on the five tables: AUC .79 ± .01 for recurrence, .79 ± .01 for survival" ;;
  published_out) echo "Published, random forest on the five tables: AUC .71 ± .00 for recurrence, .78 ± .00 for survival" ;;
  oropharynx) echo "Published, random forest on the five tables: AUC .69 ± .01 for recurrence, .71 ± .01 for survival" ;;
esac
